"""Writes checkpoints in the background of the training loop, one thread on every rank. No TensorFlow here.

`save` copies the state into one of two buffers and returns; the thread then writes a local copy, uploads this rank's
share in parts, and on the chief, once every share is there, the manifest.

One state is in flight at most, and one more may wait in the other buffer. A save that is merely due by the clock is
postponed while anything is in flight (`is_busy`): it would only be older than the one taken after it. A save that must
be (the best epoch, the last step) takes the second buffer, and waits when that is taken too; so none is ever dropped.

Between saves, and while one is in flight for however long, `copy` keeps newer states on the worker's own disk alone.
"""

import dataclasses
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from imagetrain_trainer import errors
from imagetrain_trainer.training import checkpoint_manifest, checkpoints, local_copies, state_layout

logger = logging.getLogger(__name__)

SHARDED_BYTES = 256 * 1024 * 1024  # below this one upload takes a second or two, and ranks need not wait for each other
PATIENCE_SECONDS = 600.0  # how long storage may be away before the run fails; training goes on meanwhile
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_BUFFERS = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of a save is this rank's.

    Attributes:
        rank: 0 writes the manifest.
        workers: size of the group.
        generation: number that the fence gave.
    """

    rank: int
    workers: int
    generation: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    step: int
    host: dict[str, Any]
    best_step: int | None
    alongside: Callable[[], None]
    buffer: state_layout.StateBuffer


class Saver:
    """The saver of one rank. `save`, `wait` and `close` belong to the training thread."""

    def __init__(
        self,
        saved: checkpoints.CheckpointStore,
        copies: local_copies.LocalCopies | None,
        share: Share,
        specs: Mapping[str, state_layout.ArraySpec],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        sharded_bytes: int = SHARDED_BYTES,
    ) -> None:
        """Prepare; the first buffer is made in the background.

        Args:
            saved: the run's checkpoints; the chief holds their fence.
            copies: this worker's local copies, if it keeps any.
            share: which part is this rank's.
            specs: types and shapes of the state's arrays.
            patience_seconds: how long storage may be away.
            sharded_bytes: a larger state is cut into a share a rank.
        """
        self._saved, self._copies, self._share = saved, copies, share
        is_large = sum(spec.size_bytes for spec in specs.values()) > sharded_bytes
        self._layout = state_layout.StateLayout(specs, share.workers if is_large else 1)
        self._patience_seconds = patience_seconds
        self._free: list[state_layout.StateBuffer] = []
        self._made = 1
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[_Snapshot | None] = queue.SimpleQueue()
        self._pending = 0
        self._error: Exception | None = None
        self._has_warned_of_difference = False
        self.complete_step: int | None = None
        self.background_seconds = 0.0
        self._thread = threading.Thread(target=self._work, name="checkpoint-saver", daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether a state is in flight."""
        return self._pending > 0

    @property
    def can_copy(self) -> bool:
        """Whether `copy` can keep a state now: this worker keeps copies, and a buffer is free."""
        return self._copies is not None and (bool(self._free) or self._made < _BUFFERS)

    def copy(self, step: int, arrays: state_layout.Arrays, host: dict[str, Any]) -> bool:
        """Keep the state on this worker's disk and nowhere else; return whether it is there now.

        It is written while training waits. Raises as `save`.
        """
        assert self._copies is not None, "can_copy comes first"
        buffer = self._take_buffer()
        try:
            buffer.fill(arrays)
            return self._copies.write(*self._describe(step, host, buffer))
        finally:
            with self._changed:
                self._free.append(buffer)
                self._changed.notify_all()

    def save(
        self,
        step: int,
        arrays: state_layout.Arrays,
        host: dict[str, Any],
        *,
        best_step: int | None = None,
        alongside: Callable[[], None] = lambda: None,
    ) -> None:
        """Copy the state and begin to write it.

        Args:
            step: global steps finished.
            arrays: the state; each array is asked for once, and copied before the next.
            host: JSON-able state that is not in variables.
            best_step: checkpoint to keep beside the newest.
            alongside: called in the background after the manifest, on the chief; again when storage fails in it.

        Raises:
            FencedError: a newer generation has begun.
            StorageError, DiskFullError: an earlier save failed for good.
        """
        buffer = self._take_buffer()
        buffer.fill(arrays)
        with self._changed:
            self._pending += 1
        self._queue.put(_Snapshot(step=step, host=host, best_step=best_step, alongside=alongside, buffer=buffer))

    def check(self) -> None:
        """Raise what ended the background work, if anything did; as `save`."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Return when everything saved is complete; on ranks that are not the chief, when their share is.

        Raises:
            FencedError, StorageError, DiskFullError: it failed for good.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pending == 0 or self._error is not None)
        self.check()

    def close(self) -> None:
        """End the thread after what it is at; what waits behind that is dropped."""
        self._closing.set()
        self._queue.put(None)

    def _take_buffer(self) -> state_layout.StateBuffer:
        with self._changed:
            self.check()
            if not self._free and self._made < _BUFFERS:
                self._made += 1
                return state_layout.StateBuffer(self._layout)
            self._changed.wait_for(lambda: self._free or self._error is not None)
            self.check()
            return self._free.pop()

    def _work(self) -> None:
        try:
            buffer = state_layout.StateBuffer(self._layout)
        except MemoryError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
            return
        with self._changed:
            self._free.append(buffer)
            self._changed.notify_all()
        while (snapshot := self._queue.get()) is not None and not self._closing.is_set():
            started_at = time.monotonic()
            failure: Exception | None = None
            try:
                self._write(snapshot)
            except Exception as error:  # noqa: BLE001 - the training thread raises it
                failure = error
            with self._changed:
                self._error = failure
                if failure is None:
                    self.complete_step = snapshot.step
                self.background_seconds += time.monotonic() - started_at
                self._pending -= 1
                self._free.append(snapshot.buffer)
                self._changed.notify_all()
            if failure is not None:
                return

    def _describe(
        self, step: int, host: dict[str, Any], buffer: state_layout.StateBuffer
    ) -> tuple[checkpoint_manifest.Manifest, list[memoryview]]:
        files = list(buffer.files())
        shards = tuple(
            checkpoints.describe_shard(file.key, data) for file, data in zip(self._layout.files, files, strict=True)
        )
        place = checkpoints.Place(step, self._share.generation)
        return self._saved.build_manifest(place, shards, host, workers=self._share.workers), files

    def _write(self, snapshot: _Snapshot) -> None:
        manifest, files = self._describe(snapshot.step, snapshot.host, snapshot.buffer)
        if self._copies is not None:
            self._copies.write(manifest, files)
        self._persist(lambda: self._upload(manifest, files))
        if self._share.rank == 0:
            self._persist(lambda: self._saved.publish(self._gather(manifest)))
            self._persist(snapshot.alongside)
            self._persist(lambda: self._saved.collect_garbage(snapshot.best_step))

    def _upload(self, manifest: checkpoint_manifest.Manifest, files: list[memoryview]) -> None:
        if self._share.rank >= len(files):
            return
        shard = manifest.shards[self._share.rank]
        folder = manifest.place.folder
        self._saved.objects.put(f"{folder}/{shard.key}", files[self._share.rank])
        if self._share.rank > 0:
            told = json.dumps({"sizeBytes": shard.size_bytes, "sha256": shard.sha256}).encode()
            self._saved.objects.put(f"{folder}/{_receipt_key(shard)}", told, content_type="application/json")

    def _gather(self, manifest: checkpoint_manifest.Manifest) -> checkpoint_manifest.Manifest:
        """Wait until every other rank has left the receipt of its shard; return the manifest of what they uploaded."""
        shards = [manifest.shards[0]]
        for shard in manifest.shards[1:]:
            receipt = self._await_receipt(f"{manifest.place.folder}/{_receipt_key(shard)}")
            uploaded = checkpoint_manifest.Shard(
                key=shard.key, size_bytes=int(receipt["sizeBytes"]), sha256=str(receipt["sha256"])
            )
            self._warn_of_difference(shard, uploaded)
            shards.append(uploaded)
        return dataclasses.replace(manifest, shards=tuple(shards))

    def _await_receipt(self, key: str) -> dict[str, Any]:
        deadline, pause = time.monotonic() + self._patience_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                receipt: dict[str, Any] = json.loads(self._saved.objects.get(key))
            except errors.ObjectNotFoundError:
                if time.monotonic() > deadline or self._closing.wait(pause):
                    raise errors.PeerLostError(
                        f"Another worker did not upload its share of the checkpoint: {self._saved.objects.uri_of(key)} "
                        "is not there."
                    ) from None
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return receipt

    def _warn_of_difference(self, own: checkpoint_manifest.Shard, uploaded: checkpoint_manifest.Shard) -> None:
        if own != uploaded and not self._has_warned_of_difference:
            self._has_warned_of_difference = True
            logger.warning("the replicas of the state differ between workers: %s is not what the chief has", own.key)

    def _persist(self, write: Callable[[], None]) -> None:
        """Do it, again and again while storage is away; the same bytes under the same keys do no harm."""
        deadline, pause = time.monotonic() + self._patience_seconds, 1.0
        while True:
            try:
                write()
            except errors.StorageUnavailableError as error:
                if time.monotonic() > deadline or self._closing.wait(pause):
                    raise
                logger.warning("a checkpoint waits for the storage: %s", error)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return


def _receipt_key(shard: checkpoint_manifest.Shard) -> str:
    return f"{shard.key}.json"
