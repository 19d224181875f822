"""Checkpoints in object storage: the state's objects, then a manifest that makes them visible. No TensorFlow here.

`checkpoint_manifest` has the layout, `checkpoint_fence` says which checkpoints count, `saving` writes them in the
background. A checkpoint whose manifest is missing does not exist. Loading checks every digest and falls back to the
one before.
"""

import concurrent.futures
import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import safetensors
import safetensors.numpy
from numpy import typing as npt

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.storage import whole_reads
from imagetrain_trainer.training import (
    checkpoint_fence,
    checkpoint_garbage,
    checkpoint_manifest,
    state_layout,
)

logger = logging.getLogger(__name__)

Place = checkpoint_manifest.Place
_PARALLEL_READS = 4
_UNFENCED_GENERATION = 1  # of whoever writes without a fence: tools and tests

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """State of a run after `step` global steps.

    Attributes:
        step: global steps finished.
        arrays: every variable of model and optimizer by name.
        host: JSON-able state that is not in variables (policies, history, figures of the running epoch).
        digest: of the arrays; empty before they are written.
    """

    step: int
    arrays: Arrays
    host: dict[str, Any]
    digest: str = ""


class CheckpointStore:
    """The checkpoints of one run; written by its saver, read by every worker."""

    def __init__(
        self, run_store: storage.ObjectStore, *, keep: int, job: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        """Open the checkpoints.

        Args:
            run_store: rooted at the run's prefix.
            keep: newest checkpoints to keep.
            job: name of the job, for whoever looks for a run to resume.
            clock: Unix time, which a manifest tells for whoever lists it.
        """
        self.objects = run_store.child(names.CHECKPOINTS_PREFIX)
        self.fence = checkpoint_fence.FenceKeeper(self.objects)
        self._keep = keep
        self._job = job
        self._clock = clock

    def places(self) -> list[Place]:
        """Return the complete checkpoints that count, in order, one a step."""
        fence = self.fence.held or self.fence.read()
        complete = checkpoint_garbage.find_complete(self.objects.list())
        return checkpoint_garbage.find_newest(complete, fence, keep=max(1, len(complete)))

    def steps(self) -> list[int]:
        """Return the steps that have a complete checkpoint that counts, in order."""
        return [place.step for place in self.places()]

    def load_newest(self, load: Callable[[Place], Checkpoint] | None = None) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None where there is none.

        Args:
            load: reads one, where another way than `load_place` is wanted; raises the same.

        Raises:
            DataCorruptError: there are checkpoints, and every one is damaged.
        """
        damage: errors.TrainerError | None = None
        for place in reversed(self.places()):
            try:
                return (load or self.load_place)(place)
            except (errors.DataCorruptError, errors.ObjectNotFoundError) as error:
                logger.warning("Checkpoint passed over: %s", error)
                damage = error
        if damage is not None:
            raise errors.DataCorruptError(f"Every checkpoint below {self.objects.uri} is damaged; the last: {damage}")
        return None

    def load(self, step: int) -> Checkpoint:
        """Return the checkpoint of a step.

        Raises:
            ObjectNotFoundError: there is none.
            DataCorruptError: its bytes do not match its manifest, or it is of a newer format.
        """
        for place in self.places():
            if place.step == step:
                return self.load_place(place)
        raise errors.ObjectNotFoundError(f"{self.objects.uri} holds no checkpoint of step {step}.")

    def load_place(self, place: Place) -> Checkpoint:
        """Return one checkpoint; raises as `load` does."""
        manifest = self.load_manifest(place)

        def read(shard: checkpoint_manifest.Shard) -> Arrays:
            key = f"{place.folder}/{shard.key}"
            data, uri = self.objects.get(key), self.objects.uri_of(key)
            check_shard(data, shard, uri)
            return decode_arrays(data, uri)

        with concurrent.futures.ThreadPoolExecutor(_PARALLEL_READS) as pool:
            shards = pool.map(lambda shard: whole_reads.read_whole(lambda: read(shard)), manifest.shards)
            return build_checkpoint(manifest, shards)

    def load_manifest(self, place: Place) -> checkpoint_manifest.Manifest:
        """Return what is known of a checkpoint beside its arrays.

        Raises:
            ObjectNotFoundError: it is not there.
            DataCorruptError: it is damaged, or of a newer format.
        """
        key = f"{place.folder}/{checkpoint_manifest.MANIFEST_KEY}"
        uri = self.objects.uri_of(key)
        manifest = whole_reads.read_whole(lambda: checkpoint_manifest.decode_manifest(self.objects.get(key), uri))
        if manifest.place != place:
            raise errors.DataCorruptError(f"{uri} is the manifest of step {manifest.place.step}.")
        return manifest

    def build_manifest(
        self, place: Place, shards: tuple[checkpoint_manifest.Shard, ...], host: dict[str, Any], *, workers: int
    ) -> checkpoint_manifest.Manifest:
        """Return the manifest of a state of this job."""
        return checkpoint_manifest.Manifest(
            place=place, job=self._job, workers=workers, shards=shards, host=host, created_at=round(self._clock(), 3)
        )

    def publish(self, manifest: checkpoint_manifest.Manifest) -> None:
        """Make a checkpoint visible whose shards are all there.

        Raises:
            FencedError: a newer generation has begun; nothing is written.
            StorageError, DiskFullError: the storage refused.
        """
        self.fence.check()
        key = f"{manifest.place.folder}/{checkpoint_manifest.MANIFEST_KEY}"
        self.objects.put(key, manifest.encode(), content_type="application/json")

    def collect_garbage(self, best_step: int | None) -> None:
        """Delete what is neither among the newest `keep` nor the best, and what aborted saves left.

        Raises:
            FencedError: a newer generation has begun; nothing is deleted.
            StorageError: the storage refused.
        """
        self.fence.check()
        held = self.fence.held
        garbage = checkpoint_garbage.plan_garbage(
            self.objects.list(),
            held or checkpoint_fence.Fence(generation=_UNFENCED_GENERATION),
            keep=self._keep,
            best_step=best_step,
        )
        self.objects.delete(garbage.manifests)
        self.objects.delete(garbage.others)

    def save(self, checkpoint: Checkpoint, *, best_step: int | None = None) -> None:
        """Write a checkpoint while the caller waits, and collect garbage; `saving.Saver` does it in the background.

        A step that has a complete checkpoint of this generation already is left as it is.

        Raises:
            FencedError: a newer generation has begun.
            StorageError, DiskFullError: the storage refused; what was complete before still is.
        """
        held = self.fence.held
        place = Place(checkpoint.step, held.generation if held else _UNFENCED_GENERATION)
        if not self.objects.exists(f"{place.folder}/{checkpoint_manifest.MANIFEST_KEY}"):
            layout = state_layout.StateLayout(state_layout.describe_arrays(checkpoint.arrays), shards=1)
            buffer = state_layout.StateBuffer(layout)
            buffer.fill(checkpoint.arrays)
            shards = []
            for file, data in zip(layout.files, buffer.files(), strict=True):
                self.objects.put(f"{place.folder}/{file.key}", data)
                shards.append(describe_shard(file.key, data))
            self.publish(self.build_manifest(place, tuple(shards), checkpoint.host, workers=1))
        self.collect_garbage(best_step)


def describe_shard(key: str, data: memoryview | bytes) -> checkpoint_manifest.Shard:
    """Return a shard's entry in the manifest."""
    return checkpoint_manifest.Shard(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def check_shard(data: bytes, shard: checkpoint_manifest.Shard, uri: str) -> None:
    """Raise DataCorruptError when the bytes are not those of the manifest."""
    if len(data) != shard.size_bytes or hashlib.sha256(data).hexdigest() != shard.sha256:
        raise errors.DataCorruptError(f"{uri} does not match the digest in its manifest.")


def decode_arrays(data: bytes, uri: str) -> Arrays:
    """Return the arrays of a shard.

    Raises:
        DataCorruptError: it is no safetensors file.
    """
    try:
        arrays: Arrays = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise errors.DataCorruptError(f"{uri} is no safetensors file: {error}") from error
    return arrays


def build_checkpoint(manifest: checkpoint_manifest.Manifest, parts: Iterable[Arrays]) -> Checkpoint:
    """Return a checkpoint whose shards were read."""
    arrays = {name: array for part in parts for name, array in part.items()}
    return Checkpoint(step=manifest.place.step, arrays=arrays, host=manifest.host, digest=manifest.digest)
