"""Which objects below `checkpoints/` may go. Pure; ages are told by the store's own clock."""

import collections
import dataclasses
from collections.abc import Iterable

from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoint_fence, checkpoint_manifest

ABORTED_SECONDS = 3600.0  # a state without a manifest that nobody has added to for so long is nobody's
FENCED_SECONDS = 60.0  # the same of an older generation: time for requests that were under way when it was killed


@dataclasses.dataclass(frozen=True, slots=True)
class Garbage:
    """Keys to delete, the manifests first: a half-deleted checkpoint must not look complete."""

    manifests: tuple[str, ...]
    others: tuple[str, ...]


def plan_garbage(
    objects: Iterable[storage.ObjectInfo], fence: checkpoint_fence.Fence, *, keep: int, best_step: int | None
) -> Garbage:
    """Return what is neither among the newest `keep` nor the best, nor being written.

    Args:
        objects: all below the checkpoints.
        fence: as the caller's generation holds it.
        keep: newest checkpoints to keep.
        best_step: another one to keep.
    """
    folders = _by_place(objects)
    kept = set(find_newest(_complete(folders), fence, keep=keep, best_step=best_step))
    now = max((info.modified_at for members in folders.values() for info in members), default=0.0)
    doomed = [
        place
        for place, members in folders.items()
        if place not in kept
        and place.generation <= fence.generation
        and (_is_complete(place, members) or _is_abandoned(place, members, fence, now))
    ]
    keys = [info.key for place in doomed for info in folders[place]]
    return Garbage(
        manifests=tuple(key for key in keys if _is_manifest(key)),
        others=tuple(key for key in keys if not _is_manifest(key)),
    )


def find_newest(
    places: Iterable[checkpoint_manifest.Place],
    fence: checkpoint_fence.Fence,
    *,
    keep: int,
    best_step: int | None = None,
) -> list[checkpoint_manifest.Place]:
    """Return the newest `keep` of the complete checkpoints that count, and the best, in order; one a step."""
    by_step = {place.step: place for place in sorted(places) if fence.counts(place)}  # the newest generation wins
    counting = list(by_step.values())
    return [place for place in counting if place in counting[-keep:] or place.step == best_step]


def find_complete(objects: Iterable[storage.ObjectInfo]) -> list[checkpoint_manifest.Place]:
    """Return every checkpoint that has a manifest, whether it counts or not, in order."""
    return sorted(_complete(_by_place(objects)))


_Folders = dict[checkpoint_manifest.Place, list[storage.ObjectInfo]]


def _by_place(objects: Iterable[storage.ObjectInfo]) -> _Folders:
    folders: _Folders = collections.defaultdict(list)
    for info in objects:
        place = checkpoint_manifest.parse_place(info.key.rpartition("/")[0])
        if place is not None:
            folders[place].append(info)
    return folders


def _complete(folders: _Folders) -> list[checkpoint_manifest.Place]:
    return [place for place, members in folders.items() if _is_complete(place, members)]


def _is_complete(place: checkpoint_manifest.Place, members: list[storage.ObjectInfo]) -> bool:
    return any(info.key == f"{place.folder}/{checkpoint_manifest.MANIFEST_KEY}" for info in members)


def _is_manifest(key: str) -> bool:
    return key.endswith(f"/{checkpoint_manifest.MANIFEST_KEY}")


def _is_abandoned(
    place: checkpoint_manifest.Place,
    members: list[storage.ObjectInfo],
    fence: checkpoint_fence.Fence,
    now: float,
) -> bool:
    limit = FENCED_SECONDS if place.generation < fence.generation else ABORTED_SECONDS
    return now - max(info.modified_at for info in members) > limit
