"""How the ranks of a group agree on the checkpoint to go on from, and read it. No TensorFlow here.

The chief takes the fence and proposes; every rank reads that checkpoint, from its own disk where the copy there has the
right digest, and tells what it has read. Where one cannot read the proposal (its local copy is missing, and object
storage has no such checkpoint yet), the chief proposes once more, and only what object storage has.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence

from imagetrain_trainer import errors
from imagetrain_trainer.training import checkpoint_manifest, checkpoints, local_copies

logger = logging.getLogger(__name__)

_NOTHING = -1  # as a step: there is no checkpoint, the run begins

Exchange = Callable[[Sequence[int]], list[list[int]]]
"""Tells this rank's numbers to all, and returns everybody's in the order of the ranks; every rank calls it alike."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a training process knows of itself before it has restored anything.

    Attributes:
        rank: 0 is the chief.
        generation: its number among the starts of its supervisors.
        incarnation: random, of the supervisor.
        resume_step: checkpoint that every rank is said to have a copy of; None: the newest in object storage.
    """

    rank: int
    generation: int
    incarnation: str
    resume_step: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Where the group goes on.

    Attributes:
        checkpoint: the state; None: the run begins.
        generation: number of this generation, above those of all earlier ones of the run.
        is_stored: whether object storage has this checkpoint too.
    """

    checkpoint: checkpoints.Checkpoint | None
    generation: int
    is_stored: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    step: int
    digest: int
    generation: int
    is_stored: bool

    @classmethod
    def of(cls, checkpoint: checkpoints.Checkpoint | None, generation: int, *, is_stored: bool) -> "_Proposal":
        return cls(
            step=_NOTHING if checkpoint is None else checkpoint.step,
            digest=_short(checkpoint),
            generation=generation,
            is_stored=is_stored,
        )


class Restorer:
    """Restores one rank."""

    def __init__(
        self,
        saved: checkpoints.CheckpointStore,
        copies: local_copies.LocalCopies | None,
        start: Start,
        exchange: Exchange,
    ) -> None:
        self._saved, self._copies, self._start, self._exchange = saved, copies, start, exchange

    def restore(self) -> Restored:
        """Return the state that every rank of the group goes on from, the same on each.

        Raises:
            FencedError: another worker group has taken over the run.
            DataCorruptError: there are checkpoints, and every one is damaged.
            StorageError: the storage refused.
        """
        generation = self._begin() if self._is_chief else 0
        restored, rows = self._try(generation, may_be_local_only=True)
        if not _agree(rows):
            logger.warning("a worker cannot read the checkpoint of step %d; trying what storage has", rows[0][0])
            restored, rows = self._try(generation, may_be_local_only=False)
        if _agree(rows):
            return self._settle(restored)
        found = ", ".join(f"rank {rank}: step {row[0]}" for rank, row in enumerate(rows))
        where = self._saved.objects.uri
        raise errors.DataCorruptError(f"The workers read different checkpoints from {where}: {found}.")

    @property
    def _is_chief(self) -> bool:
        return self._start.rank == 0

    def _begin(self) -> int:
        fence = self._saved.fence.take(self._start.generation, self._start.incarnation)
        self._saved.objects.remove_partial_writes()
        return fence.generation

    def _try(self, generation: int, *, may_be_local_only: bool) -> tuple[Restored, list[list[int]]]:
        checkpoint: checkpoints.Checkpoint | None = None
        told = [0, 0, 0, 0]
        if self._is_chief:
            checkpoint, is_stored = self._choose(may_be_local_only=may_be_local_only)
            made = _Proposal.of(checkpoint, generation, is_stored=is_stored)
            told = [made.step, made.digest, made.generation, int(made.is_stored)]
        step, digest, number, is_stored_flag = self._exchange(told)[0]
        proposal = _Proposal(step=step, digest=digest, generation=number, is_stored=bool(is_stored_flag))
        if not self._is_chief and proposal.step != _NOTHING:
            checkpoint = self._follow(proposal, is_last_try=not may_be_local_only)
        rows = self._exchange([_NOTHING if checkpoint is None else checkpoint.step, _short(checkpoint)])
        restored = Restored(checkpoint=checkpoint, generation=number, is_stored=proposal.is_stored)
        return restored, rows

    def _choose(self, *, may_be_local_only: bool) -> tuple[checkpoints.Checkpoint | None, bool]:
        """Return the chief's proposal, and whether object storage has it."""
        places = self._saved.places()
        wanted = self._start.resume_step
        if may_be_local_only and wanted is not None and (not places or places[-1].step <= wanted):
            found = self._read_copy(wanted)
            if found is not None and self._is_ours(found[0].place):
                return found[1], found[0].place in places
        return self._saved.load_newest(self._load if may_be_local_only else None), True

    def _is_ours(self, place: checkpoint_manifest.Place) -> bool:
        """Tell whether a copy is of this run's line; the folder may have served another run before."""
        fence = self._saved.fence.held
        return fence is not None and place.generation < fence.generation and fence.counts(place)

    def _load(self, place: checkpoint_manifest.Place) -> checkpoints.Checkpoint:
        found = self._read_copy(place.step)
        if found is not None and self._saved.load_manifest(place).digest == found[0].digest:
            return found[1]
        return self._saved.load_place(place)

    def _follow(self, proposal: _Proposal, *, is_last_try: bool) -> checkpoints.Checkpoint | None:
        """Return the chief's proposal as this rank can read it, or None where it cannot."""
        found = self._read_copy(proposal.step)
        if found is not None and _short(found[1]) == proposal.digest:
            return found[1]
        try:
            checkpoint = self._saved.load(proposal.step)
        except (errors.DataCorruptError, errors.ObjectNotFoundError):
            if is_last_try:
                raise
            return None
        return checkpoint if _short(checkpoint) == proposal.digest else None

    def _read_copy(self, step: int) -> tuple[checkpoint_manifest.Manifest, checkpoints.Checkpoint] | None:
        if self._copies is None:
            return None
        try:
            manifest, parts = self._copies.read(step)
        except errors.ObjectNotFoundError:
            return None
        except errors.DataCorruptError as error:
            logger.warning("Local copy passed over: %s", error)
            return None
        arrays = [
            checkpoints.decode_arrays(data, shard.key) for shard, data in zip(manifest.shards, parts, strict=True)
        ]
        return manifest, checkpoints.build_checkpoint(manifest, arrays)

    def _settle(self, restored: Restored) -> Restored:
        step = 0 if restored.checkpoint is None else restored.checkpoint.step
        if self._is_chief:
            self._saved.fence.branch(step)
        if self._copies is not None:
            self._copies.discard_after(step)
        return restored


def _agree(rows: list[list[int]]) -> bool:
    return all(row == rows[0] for row in rows)


def _short(checkpoint: checkpoints.Checkpoint | None) -> int:
    """Return 48 bits of a digest: numbers below 2**53 pass through float64 unchanged."""
    return 0 if checkpoint is None else int(checkpoint.digest[:12], 16)
