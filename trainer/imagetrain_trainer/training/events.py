"""TensorBoard events of the chief, kept beside the run's models."""

import pathlib

import tensorflow as tf

from imagetrain_api import names
from imagetrain_trainer.storage import store as storage


class EventLog:
    """Scalars by epoch; the file goes to object storage whole, so a reader there never sees half a record."""

    def __init__(self, folder: pathlib.Path, run_store: storage.ObjectStore) -> None:
        self._folder = folder
        self._store = run_store.child(names.EVENTS_PREFIX)
        self._writer = tf.summary.create_file_writer(str(folder))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Add the figures of one step."""
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)

    def upload(self) -> None:
        """Copy the events so far to object storage.

        Raises:
            StorageError: the storage refused.
        """
        self._writer.flush()
        for path in sorted(self._folder.iterdir()):
            self._store.upload_file(path.name, path)

    def close(self) -> None:
        """Write what is left and upload it."""
        self.upload()
        self._writer.close()
