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

    def flush(self) -> None:
        """Write what is buffered to the local file, so that it outlives this process."""
        self._writer.flush()

    def read(self) -> tuple[tuple[str, bytes], ...]:
        """Return the files so far, by name: whole records, for nobody writes meanwhile."""
        self._writer.flush()
        return tuple((path.name, path.read_bytes()) for path in sorted(self._folder.iterdir()))

    def upload(self, files: tuple[tuple[str, bytes], ...]) -> None:
        """Copy what `read` returned to object storage; any thread may.

        Raises:
            StorageError: the storage refused.
        """
        for name, data in files:
            self._store.put(name, data)

    def close(self) -> None:
        """Write what is left and upload it."""
        self.upload(self.read())
        self._writer.close()
