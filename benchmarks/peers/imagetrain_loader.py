"""The product's reader as a process of `loaders.py`: S3 to memory, with a disk cache if `--local` names a folder."""

import argparse
import pathlib
import sys
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from imagetrain_trainer.data import prefetch, reader, sampler
from imagetrain_trainer.storage import s3, store  # noqa: F401 - the store would import s3 when it is opened
from peers import loader_run

_CACHE_BYTES = 64 * 1024**3


def open_batches(arguments: argparse.Namespace) -> Iterator[loader_run.Batch]:
    """Read this rank's part of an epoch's steps, from the step after `skip` on."""
    cache = reader.CacheOptions(folder=arguments.local, max_bytes=_CACHE_BYTES) if arguments.local else None
    options = reader.ReaderOptions(in_memory_bytes=0, cache=cache)
    with reader.DatasetReader(store.open_store(arguments.source), "train", options) as records:
        plan = sampler.Sampler(records.layout, loader_run.BATCH)
        steps = range(arguments.skip, plan.steps_per_epoch)
        ids = (plan.worker_records(step, arguments.rank, arguments.world) for step in steps)
        with prefetch.Prefetcher(records, ids) as ahead:
            for batch in ahead:
                yield loader_run.Batch(batch.record_ids.tolist(), batch.payloads)


if __name__ == "__main__":
    loader_run.measure(loader_run.parse(__doc__ or ""), open_batches)
