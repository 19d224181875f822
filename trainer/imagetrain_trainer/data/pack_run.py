"""One run of a pack over its work list: chunks through the workers into shards, resumed where an earlier run ended."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping

from imagetrain_trainer import errors
from imagetrain_trainer.data import (
    pack_journal,
    pack_list,
    pack_options,
    pack_shards,
    pack_tally,
    pack_uploads,
    pack_worker,
    pack_workers,
)
from imagetrain_trainer.storage import store

_CHUNK_BYTES = 1 << 20  # large enough that handing a chunk over costs little, small enough to hold many
_FIRST_CHUNK, _MAX_CHUNK = 16, 256  # images
_IMAGES_PER_PROCESS = 500  # starting a process (0.35 s) takes as long as about this many photographs


@dataclasses.dataclass(frozen=True, slots=True)
class PackProgress:
    """How far packing is.

    Attributes:
        stage: "list" (finding the images) or "pack" (reading, encoding and writing them).
        done: images.
        total: images, or None while they are being listed.
    """

    stage: str
    done: int
    total: int | None


OnProgress = Callable[[PackProgress], None]


def run(
    work: pack_worker.Work,
    worklist: pack_list.WorkList,
    journal: pack_journal.Journal,
    objects: store.ObjectStore,
    found: Mapping[str, store.ObjectInfo],
    options: pack_options.PackOptions,
    report: OnProgress,
) -> tuple[pack_shards.Packed, int]:
    """Write all shards that are not finished yet.

    Args:
        work: what the workers need.
        worklist: of all images.
        journal: of this pack.
        objects: the destination.
        found: what it holds now, by key.
        options: of the pack.
        report: called in this thread.

    Returns:
        All finished shards, and the number of images in those of earlier runs.

    Raises:
        errors.ConfigError: an image is refused, or does not fit to the others.
        errors.StorageError: the source or the destination failed.
        errors.DiskFullError: likewise.
    """
    uniformity = pack_tally.Uniformity(options.channels)
    packed = pack_shards.resume(journal, found, uniformity)
    for refusal in journal.refusals(1):
        _check_refusal(refusal, options)
    total = sum(map(len, worklist.ranges.values()))
    resumed = sum(tally.images for tally in packed.tallies.values())
    report(PackProgress("pack", packed.position, total))
    uploads: pack_uploads.Uploads[pack_shards.Done] = pack_uploads.Uploads()
    assembler = pack_shards.ShardAssembler(objects, journal, uploads, packed, options.shard_size_bytes)
    chunks = _Chunks(worklist)
    count = options.processes or _choose_processes(total - packed.position)
    try:
        with pack_workers.open_workers(work, count) as process:
            for split, positions in worklist.ranges.items():
                start = max(positions.start, packed.position)
                if start >= positions.stop:
                    continue
                assembler.begin(split, start)
                done = start
                for chunk in process(chunks.iterate(start, positions.stop)):
                    for refusal in chunk.refusals:
                        _check_refusal(refusal, options)
                    for facts in chunk.records:
                        uniformity.check(facts)
                    assembler.add(chunk)
                    chunks.learn(chunk)
                    done += len(chunk.records) + len(chunk.refusals)
                    report(PackProgress("pack", done, total))
                assembler.end(positions.stop)
            assembler.finish()
    except errors.TrainerError:
        assembler.rescue()
        raise
    finally:
        uploads.close()
    return packed, resumed


def _check_refusal(refusal: pack_journal.Refusal, options: pack_options.PackOptions) -> None:
    if not options.skip_bad:
        raise errors.ConfigError(f"{refusal.reason} Correct or remove it, or pack with --skip-bad.")


def _choose_processes(images: int) -> int:
    return max(1, min(len(os.sched_getaffinity(0)), images // _IMAGES_PER_PROCESS))


class _Chunks:
    """Cuts the work list into chunks of about as many bytes; where it is cut changes nothing in the shards."""

    def __init__(self, worklist: pack_list.WorkList) -> None:
        self._worklist = worklist
        self._images = _FIRST_CHUNK

    def iterate(self, start: int, stop: int) -> Iterator[list[pack_list.Row]]:
        """Yield the rows from start to stop."""
        while start < stop:
            end = min(stop, start + self._images)
            yield self._worklist.rows(start, end)
            start = end

    def learn(self, chunk: pack_worker.Chunk) -> None:
        """Adapt to the size of the images in a chunk."""
        if chunk.records:
            mean_bytes = len(chunk.frames) / len(chunk.records)
            self._images = max(1, min(_MAX_CHUNK, round(_CHUNK_BYTES / mean_bytes)))
