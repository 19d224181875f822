"""WebDataset as a process of `loaders.py`: tar files are streamed by curl, one after the other in each worker.

As its documentation has it: URLs over HTTP (which it reads by curl), shards shuffled, a buffer of 1,000
records shuffled, batches made in the workers, WebLoader. Seeds are fixed (`detshuffle`): without that, no two
runs agree.
https://github.com/webdataset/webdataset
"""

import argparse
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import numpy as np
import webdataset  # type: ignore[import-not-found]  # in the peers' environment alone

from peers import loader_run

SHARD_BYTES = 64 * 1024 * 1024
_BUFFERED_RECORDS = 1000
_SHUFFLED_SHARDS = 100


def write(arguments: argparse.Namespace) -> None:
    """Write the records as tar files in a folder."""
    pattern = str(pathlib.Path(arguments.source) / "%06d.tar")
    payloads = loader_run.make_payloads(arguments.records, arguments.record_bytes, np.random.default_rng(0).bytes)
    with webdataset.ShardWriter(pattern, maxsize=SHARD_BYTES, verbose=0) as writer:
        for number, payload in enumerate(payloads):
            writer.write({"__key__": f"{number:09d}", "jpg": payload, "cls": number % 2})


def open_batches(arguments: argparse.Namespace) -> Iterator[loader_run.Batch]:
    """Read this rank's part of an epoch; what comes before `skip` is read and dropped, for there is no other way."""
    urls = json.loads(pathlib.Path(arguments.source).read_text())
    data = webdataset.WebDataset(
        urls,
        shardshuffle=_SHUFFLED_SHARDS,
        detshuffle=True,
        seed=0,
        nodesplitter=webdataset.split_by_node,
        cache_dir=str(arguments.local) if arguments.local else None,
        cache_size=-1,
        empty_check=False,
    )
    data = data.compose(webdataset.detshuffle(_BUFFERED_RECORDS)).to_tuple("__key__", "jpg", "cls")
    data = data.batched(loader_run.BATCH // arguments.world)
    loader: Any = webdataset.WebLoader(data, batch_size=None, num_workers=arguments.workers)
    for keys, images, _ in itertools.islice(loader, arguments.skip, None):
        yield loader_run.Batch(list(map(int, keys)), images)


def main() -> None:
    """Write or read."""
    arguments = loader_run.parse(__doc__ or "")
    if arguments.action == "write":
        write(arguments)
        return
    loader_run.measure(arguments, open_batches)


if __name__ == "__main__":
    main()
