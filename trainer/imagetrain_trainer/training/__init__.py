"""The training process: one of a group under MultiWorkerMirroredStrategy."""
