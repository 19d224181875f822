"""A folder store whose writes a test holds up or lets fail, to look at what is half done."""

import collections.abc
import pathlib
import threading

from imagetrain_trainer.storage import local, object_store

WAIT_SECONDS = 30.0


class PausedStore(local.LocalStore):
    """Holds every write of a matching key until `go` is set, and lets the first `failures` of them fail."""

    def __init__(self, root: pathlib.Path, shared: "Pauses") -> None:
        super().__init__(root)
        self._shared = shared

    def put(
        self, key: str, data: bytes | memoryview, *, only_if_absent: bool = False, content_type: str | None = None
    ) -> object_store.ObjectInfo:
        """Write, when the test lets it."""
        self._shared.meet(key)
        return super().put(key, data, only_if_absent=only_if_absent, content_type=content_type)

    def child(self, prefix: str) -> "PausedStore":
        """Return the store of a folder below this one, under the same pauses."""
        return PausedStore(self.root / prefix, self._shared)


class Pauses:
    """What a test says of the writes of a store and its children."""

    def __init__(self, part_of_key: str = "state-") -> None:
        self._part_of_key = part_of_key
        self.go = threading.Event()
        self.go.set()
        self.failures: collections.abc.Iterator[Exception] = iter(())
        self.reached = threading.Event()

    def meet(self, key: str) -> None:
        """Hold or fail a write."""
        if self._part_of_key not in key:
            return
        self.reached.set()
        if not self.go.wait(WAIT_SECONDS):
            raise TimeoutError(key)
        if (failure := next(self.failures, None)) is not None:
            raise failure
