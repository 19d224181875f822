"""Keeps the stacks of a worker that hung in the run's storage, from a process of its own.

The supervisor imports no storage client, for it stays small, and it waits for no storage: it starts this module with a
file and goes on. `python -m imagetrain_trainer.worker.incidents FILE KEY` reads the worker's environment as it does.
"""

import logging
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

from imagetrain_api import job, names
from imagetrain_trainer import errors
from imagetrain_trainer.worker import environment, logs, stack_text

logger = logging.getLogger(__name__)

_FOLDER = "incidents"  # in the work folder


def build_key(generation: int, rank: int, incarnation: str) -> str:
    """Return the key of a dump in the run's store; each attempt counts its generations from 1."""
    return f"{names.INCIDENTS_PREFIX}/generation-{generation:04d}-rank-{rank}-{incarnation}.txt"


def build_uri(training: job.ImageTrainingJob, run_id: str, key: str) -> str:
    """Return where a dump lies, for `MemberReport.dump_uri`."""
    return f"{training.spec.output.uri.rstrip('/')}/{names.run_prefix(run_id)}/{key}"


def start_upload(
    dump: stack_text.StackDump, work_dir: pathlib.Path, *, key: str, variables: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Write a dump to the work folder and start its upload; poll the process to have its end noticed.

    Args:
        dump: of this worker's training process.
        work_dir: of the worker.
        key: of the dump in the run's store.
        variables: the supervisor's environment.

    Raises:
        OSError: the folder is full, or no process can be started.
    """
    path = work_dir / _FOLDER / pathlib.PurePath(key).name
    path.parent.mkdir(exist_ok=True)
    path.write_text(dump.text)
    command = [sys.executable, "-m", "imagetrain_trainer.worker.incidents", str(path), key]
    return subprocess.Popen(command, env=dict(variables), stdin=subprocess.DEVNULL, start_new_session=True)


def main() -> None:
    """Upload one file; a failure is logged and loses the dump in the storage alone."""
    path, key = sys.argv[1:]
    worker = environment.read_environment(os.environ)
    logs.configure(worker.log_format, worker.rank)
    try:
        upload(worker, pathlib.Path(path), key)
    except errors.TrainerError as error:
        logger.warning("the stacks stay in %s: %s", path, error)
        sys.exit(error.exit_code)


def upload(worker: environment.WorkerEnvironment, path: pathlib.Path, key: str) -> None:
    """Put a file into the run's store.

    Raises:
        TrainerError: the storage failed.
    """
    from imagetrain_trainer.storage import store as storage  # noqa: PLC0415 - the supervisor imports this module too

    spec = worker.config.job.spec
    settings = storage.S3Settings(endpoint_url=spec.s3.endpoint_url, region=spec.s3.region)
    run_store = storage.open_store(spec.output.uri, settings).child(names.run_prefix(worker.config.run_id))
    run_store.put(key, path.read_bytes(), content_type="text/plain; charset=utf-8")


if __name__ == "__main__":
    main()
