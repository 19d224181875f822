"""A process that reads an epoch of a data set with a disk cache: `python cache_readers.py SET CACHE RANK WORLD`.

It says "ready", begins at a line of its input, and says how many bytes it got from the store and how many records.
"""

import pathlib
import sys

import waiting
from imagetrain_trainer.data import cell_cache, prefetch, reader, sampler
from imagetrain_trainer.storage import store

SEED, BATCH = 3, 64


def main() -> None:
    """Read."""
    uri, folder, rank, world_size = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    cell_cache.CLAIM_SECONDS = 60.0  # on a busy machine too, nothing is fetched twice for want of patience
    options = reader.ReaderOptions(cache=reader.CacheOptions(folder=folder, max_bytes=10**9), in_memory_bytes=0)
    with reader.DatasetReader(store.open_store(uri), "train", options) as records:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        plan = sampler.Sampler(records.layout, BATCH, SEED)
        steps = (plan.worker_records(step, rank, world_size) for step in range(plan.steps_per_epoch))
        with prefetch.Prefetcher(records, steps) as ahead:
            count = sum(map(len, ahead))
        # What is not in the cache yet when a reader is closed is dropped, and would be fetched by the others.
        waiting.until(lambda: not list((folder / "v1" / "claims").iterdir()), seconds=60)
        sys.stdout.write(f"{records.counters.requests.bytes} {count}\n")


if __name__ == "__main__":
    main()
