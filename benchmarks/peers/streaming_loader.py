"""MosaicML streaming as a process of `loaders.py`: shards are copied to a local folder and read from there.

As its guides have it: StreamingDataset with batch_size, py1e shuffle and a local folder, in a StreamingDataLoader;
`S3_ENDPOINT_URL` names the server. https://docs.mosaicml.com/projects/streaming
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import boto3.s3.transfer  # noqa: F401 - the downloader would import it at its first shard
import numpy as np
import streaming  # type: ignore[import-not-found]  # in the peers' environment alone
import torch.distributed  # type: ignore[import-not-found]

from peers import loader_run

_HASH = "xxh64"


def write(arguments: argparse.Namespace) -> None:
    """Write the records as MDS shards of the default size, with hashes."""
    columns = {"image": "bytes", "key": "int", "label": "int"}
    payloads = loader_run.make_payloads(arguments.records, arguments.record_bytes, np.random.default_rng(0).bytes)
    with streaming.MDSWriter(out=arguments.source, columns=columns, hashes=[_HASH]) as writer:
        for number, payload in enumerate(payloads):
            writer.write({"image": payload, "key": number, "label": number % 2})


def open_batches(arguments: argparse.Namespace) -> Iterator[loader_run.Batch]:
    """Read this rank's part of an epoch, from the saved state on where there is one."""
    if arguments.world > 1:
        torch.distributed.init_process_group("gloo")
    batch = loader_run.BATCH // arguments.world
    data = streaming.StreamingDataset(
        remote=arguments.source,
        local=str(arguments.local),
        shuffle=True,
        shuffle_algo="py1e",
        shuffle_block_size=arguments.shuffle_block,
        batch_size=batch,
        validate_hash=arguments.validate_hash,
    )
    loader = streaming.StreamingDataLoader(data, batch_size=batch, num_workers=arguments.workers)
    if arguments.state:
        loader.load_state_dict(json.loads(arguments.state.read_text()))
    for number, records in enumerate(loader, start=1):
        if arguments.save_state and number == arguments.skip:
            arguments.save_state.write_text(json.dumps(loader.state_dict()))
        yield loader_run.Batch(records["key"].tolist(), records["image"])


def main() -> None:
    """Write or read."""
    arguments = loader_run.parse(__doc__ or "")
    if arguments.action == "write":
        write(arguments)
        return
    loader_run.measure(arguments, open_batches)


if __name__ == "__main__":
    main()
