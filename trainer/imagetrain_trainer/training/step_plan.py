"""Which steps a run leaves out, and which it runs one by one. Steps count from 1 here, as users see them.

The group's coordinator finds out at which step the group crashes again and again (rendezvous/crashes.py) and tells it
to the training processes of the next generation. The chief keeps what it was told in the run's store, for a coordinator
of a later attempt knows nothing of it, and the chief's word counts for all ranks.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence

from imagetrain_api import progress
from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage

LEFT_OUT_KEY = "left-out-steps.json"  # in the run's store
_WRITE_ATTEMPTS = 5

Exchange = Callable[[Sequence[int]], list[list[int]]]
"""Tells this rank's numbers to all, and returns everybody's in the order of the ranks; every rank calls it alike."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepPlan:
    """What is special about some of a run's steps.

    Attributes:
        left_out: their updates are not made.
        careful: first and last of those that run one by one; or nothing.
    """

    left_out: frozenset[int] = frozenset()
    careful: tuple[int, ...] = ()

    def is_careful(self, step: int) -> bool:
        """Tell whether a step runs alone, for one of its kind crashed."""
        return bool(self.careful) and self.careful[0] <= step <= self.careful[-1]

    def most_together(self, first: int, wanted: int) -> int:
        """Return how many steps may run together from `first` on, at least one and at most `wanted`."""
        if self.is_careful(first):
            return 1
        ends = [step for step in (*self.left_out, *self.careful[:1]) if step > first]
        return min([wanted, *(step - first for step in ends)])


def settle(plan: StepPlan, run_store: storage.ObjectStore, exchange: Exchange, *, is_chief: bool) -> StepPlan:
    """Return the plan that all ranks follow: what the chief was told now and in earlier attempts.

    Raises:
        CrashLoopError: these are too many steps.
        DataCorruptError: what was kept cannot be read.
        StorageError: the storage failed.
    """
    steps = sorted(remember(run_store, plan.left_out)) if is_chief else []
    padding = [0] * (progress.MAX_SKIPPED_STEPS - len(steps))
    told = exchange([*steps, *padding])[0]
    return dataclasses.replace(plan, left_out=frozenset(step for step in told if step))


def remember(run_store: storage.ObjectStore, steps: Iterable[int]) -> frozenset[int]:
    """Add steps to those that the run's store keeps; return all of them.

    Raises:
        CrashLoopError: these are too many steps.
        DataCorruptError: what was kept cannot be read.
        StorageError: the storage failed.
    """
    for _ in range(_WRITE_ATTEMPTS):
        known, etag = _read(run_store)
        together = known | frozenset(steps)
        if len(together) > progress.MAX_SKIPPED_STEPS:
            raise errors.CrashLoopError(
                f"The group crashed at more than {progress.MAX_SKIPPED_STEPS} steps, the newest of them step "
                f"{max(steps)}; so many bad batches are no accident. See the log, and check the data set."
            )
        if together == known:
            return known
        try:
            _write(run_store, together, etag)
        except errors.ObjectExistsError:  # a process that should be dead wrote at the same time
            continue
        return together
    raise errors.StorageUnavailableError(f"{run_store.uri_of(LEFT_OUT_KEY)} is written by somebody else all the time.")


def _read(run_store: storage.ObjectStore) -> tuple[frozenset[int], str | None]:
    try:
        etag = run_store.head(LEFT_OUT_KEY).etag  # before the read: what changes in between fails the write
        document = json.loads(run_store.get(LEFT_OUT_KEY))
        return frozenset(int(step) for step in document["steps"]), etag
    except errors.ObjectNotFoundError:
        return frozenset(), None
    except (ValueError, KeyError, TypeError) as error:
        uri = run_store.uri_of(LEFT_OUT_KEY)
        raise errors.DataCorruptError(f"{uri} is no list of steps: {error}. Delete it to leave none out.") from error


def _write(run_store: storage.ObjectStore, steps: frozenset[int], etag: str | None) -> None:
    data, kind = json.dumps({"schemaVersion": 1, "steps": sorted(steps)}).encode(), "application/json"
    if etag is None:
        run_store.put(LEFT_OUT_KEY, data, only_if_absent=True, content_type=kind)
    else:
        run_store.put_if_match(LEFT_OUT_KEY, data, etag, content_type=kind)
