"""The loaders that `loaders.py` compares: how each is started, and what its processes say."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any

import boto3
import botocore.config

import s3_servers
from input_bench import places
from peers import loader_run

_SCRIPTS = pathlib.Path(__file__).parents[1] / "peers"
_TIMEOUT_SECONDS = 600
_URL_SECONDS = 86_400


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A loader with its settings."""

    name: str
    script: str
    python: str
    source: str
    """A URI, or the file that lists URLs."""
    shards: str
    """Where in the bucket its shards lie, as a pattern."""
    options: tuple[str, ...] = ()
    needs_folder: bool = False
    """Whether it cannot read without copies on a local disk."""
    has_workers: bool = True
    """Whether it reads through a DataLoader, which may have worker processes."""

    def run(
        self,
        work: pathlib.Path,
        *arguments: str,
        folder: pathlib.Path | None = None,
        ranks: int = 1,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> list[loader_run.Figures]:
        """Run one process per rank and return their figures; a folder that it needs and is not given is a new one.

        A process that takes too long is ended; its figures hold nothing but that error.

        Raises:
            RuntimeError: a process failed; its last words are in the message.
        """
        scratch = work / "scratch"
        if folder is None and self.needs_folder:
            folder = scratch
        if folder is not None:
            folder.mkdir(exist_ok=True)
            arguments = (*arguments, "--local", str(folder))
        command = [self.python, str(_SCRIPTS / self.script), "read", self.source, *self.options, *arguments]
        try:
            processes = [_start(command, environment) for environment in _rank_environments(ranks)]
            return [_finish(process, timeout_seconds) for process in processes]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def write(self, destination: str, records: int, record_bytes: int) -> None:
        """Write the data set in the loader's own form."""
        command = [self.python, str(_SCRIPTS / self.script), "write", destination]
        command += ["--records", str(records), "--record-bytes", str(record_bytes)]
        subprocess.run(command, check=True, env=_environment(), stdout=subprocess.DEVNULL, timeout=_TIMEOUT_SECONDS)

    def with_options(self, *options: str) -> "System":
        """Return it with more options."""
        return dataclasses.replace(self, options=(*self.options, *options))


def _environment() -> dict[str, str]:
    return os.environ | {"S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"], "PYTHONWARNINGS": "ignore"}


def _rank_environments(ranks: int) -> list[dict[str, str]]:
    """Return the variables that torchrun would set."""
    if ranks == 1:
        return [_environment()]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(port)}
    return [_environment() | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def _start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _finish(process: "subprocess.Popen[str]", timeout_seconds: float) -> loader_run.Figures:
    try:
        output, errors = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its DataLoader's workers, too
        process.communicate()
        return loader_run.Figures(error=f"no end within {timeout_seconds:g} s")
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"{process.args!r} ended with {process.returncode}:\n{errors[-3000:]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    figures["checksums"] = {int(key): value for key, value in figures["checksums"].items()}
    return loader_run.Figures(**figures)


def write_urls(server: s3_servers.S3Server, destination: pathlib.Path) -> None:
    """Write the list of presigned URLs of all tar files, for the endpoint of the server."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=botocore.config.Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    listed = client.list_objects_v2(Bucket=places.BUCKET, Prefix="tars/")["Contents"]
    urls = [
        client.generate_presigned_url(
            "get_object", Params={"Bucket": places.BUCKET, "Key": entry["Key"]}, ExpiresIn=_URL_SECONDS
        )
        for entry in listed
    ]
    destination.write_text(json.dumps(urls))


def make_systems(peers_python: str, urls: pathlib.Path, shuffle_block: int) -> list[System]:
    """Return the loaders; each as its documentation recommends, and MosaicML's also with blocks of the given size."""
    mosaic = System(
        name="MosaicML streaming",
        script="streaming_loader.py",
        python=peers_python,
        source=f"s3://{places.BUCKET}/mds",
        shards="mds/shard.*.mds",
        needs_folder=True,
    )
    return [
        System(
            name="imagetrain",
            script="imagetrain_loader.py",
            python=sys.executable,
            source=f"s3://{places.BUCKET}/set/",
            shards="set/train/*.tfrecord",
            has_workers=False,
        ),
        mosaic,
        dataclasses.replace(
            mosaic, name=f"the same, blocks of {shuffle_block:,}", options=("--shuffle-block", str(shuffle_block))
        ),
        System(
            name="WebDataset",
            script="webdataset_loader.py",
            python=peers_python,
            source=str(urls),
            shards="tars/*.tar",
        ),
    ]
