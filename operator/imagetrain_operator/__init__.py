"""The operator: it makes worker groups of pods out of ImageTrainingJobs and keeps their status true.

Order of the packages: `observed` (what the cluster holds, trimmed) < `plan` (pure decisions) < `cluster` (API calls) <
`reconcile` and `handlers` < `main`. Nothing here imports TensorFlow or the trainer.
"""
