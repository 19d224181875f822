"""Kill publishers with SIGKILL at random moments against a real S3 server, and look whether any manifest is wrong.

    python benchmarks/publisher_kill.py --server versitygw --kills 50

Each kill has a run of its own: one process, or two with different bytes at the same moment, publish it, and one of them
is killed somewhere between its first request and a little after its usual end. Whatever is then in the bucket is read
back as a consumer does: every artifact that a manifest names must be there with its length and SHA-256, and so must the
manifest that latest.json names. Then another attempt with other bytes must complete the run, or find it complete.
`make versitygw` builds the server; moto (`--server moto`) needs nothing.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import publish_cases
import s3_servers
from imagetrain_api import names
from imagetrain_trainer.publish import catalog, publisher
from imagetrain_trainer.storage import store

BUCKET = "kill-benchmark"
FILE_BYTES = 400_000  # four such files: about what small_cnn publishes
PAST_THE_END = 1.1  # kills are drawn from 0 to this many usual durations
COMPLETE_SECONDS = 60.0


class WrongError(Exception):
    """What the benchmark is there to find."""


def require(condition: object, message: str) -> None:
    """Raise WrongError unless the condition holds."""
    if not condition:
        raise WrongError(message)


@dataclasses.dataclass(slots=True)
class Tally:
    """What the kills met."""

    before_manifest: int = 0
    after_manifest: int = 0
    too_late: int = 0
    peers_won: int = 0
    orphans: int = 0


def main() -> int:
    """Run the benchmark; the exit status is 0 when the invariant held throughout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("versitygw", "moto"), default="versitygw")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", nargs=3, metavar=("RUN_ID", "SEED", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        return publish_once(*arguments.publish)
    with tempfile.TemporaryDirectory() as scratch, run_server(arguments.server, pathlib.Path(scratch)) as server:
        os.environ.update(server.environment())
        server.create_bucket(BUCKET)
        return run_kills(arguments, pathlib.Path(scratch))


@contextlib.contextmanager
def run_server(name: str, scratch: pathlib.Path) -> Iterator[s3_servers.S3Server]:
    """Run the chosen server until the block ends."""
    if name == "moto":
        with s3_servers.moto_server() as server:
            yield server
    else:
        with s3_servers.versitygw_server(scratch / "server") as server:
            yield server


def open_output() -> store.ObjectStore:
    """Open the output prefix in the benchmark's bucket."""
    return store.open_store(f"s3://{BUCKET}/models/")


def publish_once(run_id: str, seed: str, folder: str) -> int:
    """Publish one run, as the process that is to be killed: on a line from its standard input."""
    output = open_output()
    print("ready", flush=True)
    sys.stdin.readline()
    draft = publish_cases.build_draft(run_id=run_id, created_at=publish_cases.time_of(time.time()), job=f"seed-{seed}")
    publisher.publish_run(output, draft, pathlib.Path(folder))
    print("done", flush=True)
    return 0


def start(run_id: str, seed: int, folder: pathlib.Path) -> "subprocess.Popen[str]":
    """Start a publisher; it waits for `go`."""
    command = [sys.executable, __file__, "--publish", run_id, str(seed), str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go(*processes: "subprocess.Popen[str]") -> None:
    """Let publishers begin, all at the same moment."""
    for process in processes:
        require(process.stdout and process.stdout.readline() == "ready\n", "a publisher did not start")
    for process in processes:
        if process.stdin:
            process.stdin.write("go\n")
            process.stdin.flush()


def run_kills(arguments: argparse.Namespace, scratch: pathlib.Path) -> int:
    """Kill `arguments.kills` publishers one after the other and print what was found."""
    generator = random.Random(arguments.seed)  # noqa: S311 - the moments only have to differ
    folders = [publish_cases.write_files(scratch / f"files-{seed}", seed, FILE_BYTES) for seed in range(3)]
    usual_seconds = measure_usual_seconds(folders[0])
    print(f"{arguments.server}: a publisher takes {1000 * usual_seconds:.0f} ms from its first request to its end")
    tally, output, started = Tally(), open_output(), time.monotonic()
    for number in range(arguments.kills):
        moment = generator.uniform(0, PAST_THE_END * usual_seconds)
        kill_one(f"run-{number:03}", moment, folders, tally, has_peer=number % 2 == 1)
    published = publish_cases.check_invariant(output)
    runs = {f"run-{number:03}" for number in range(arguments.kills)}
    require(runs < set(published), f"not completed: {sorted(runs - set(published))}")
    print_tally(arguments, tally, output, time.monotonic() - started)
    return 0


def measure_usual_seconds(folder: pathlib.Path) -> float:
    """Return the median duration of undisturbed publishers."""
    durations = []
    for number in range(5):
        process = start(f"usual-{number}", 0, folder)
        go(process)
        begun = time.monotonic()
        require(process.stdout and process.stdout.readline() == "done\n", "a publisher failed")
        durations.append(time.monotonic() - begun)
        process.wait(COMPLETE_SECONDS)
    return sorted(durations)[2]


def kill_one(run_id: str, moment: float, folders: list[pathlib.Path], tally: Tally, *, has_peer: bool) -> None:
    """Kill a publisher `moment` seconds after its start, check what is left, and complete the run."""
    peer = start(run_id, 1, folders[1]) if has_peer else None
    victim = start(run_id, 0, folders[0])
    go(*filter(None, (victim, peer)))
    time.sleep(moment)
    has_ended = victim.poll() is not None
    victim.send_signal(signal.SIGKILL)
    victim.wait(COMPLETE_SECONDS)
    require(not peer or peer.wait(COMPLETE_SECONDS) == 0, "the peer failed")
    output = open_output()
    is_published = bool(publish_cases.check_invariant(output, run_id))
    require(is_published or not peer, "the peer ended without a manifest")
    draft = publish_cases.build_draft(run_id=run_id, created_at=publish_cases.time_of(time.time()), job="seed-2")
    completed = publisher.publish_run(output, draft, folders[2])
    require(completed.is_own == (not is_published), "a published run was published again")
    require(catalog.load_manifest(output).manifest.run_id == run_id, "latest.json was not moved")
    publish_cases.check_invariant(output, run_id)
    count(tally, output, completed, has_ended=has_ended, is_published=is_published)


def count(
    tally: Tally,
    output: store.ObjectStore,
    completed: publisher.PublishedRun,
    *,
    has_ended: bool,
    is_published: bool,
) -> None:
    """Add one kill to the tally."""
    manifest = completed.loaded.manifest
    tally.too_late += has_ended
    tally.after_manifest += is_published and not has_ended
    tally.before_manifest += not is_published
    tally.peers_won += manifest.job == "seed-1"
    stored = sum(1 for _ in output.list(f"{names.run_prefix(manifest.run_id)}/published"))
    tally.orphans += stored - len(manifest.artifacts)


def print_tally(arguments: argparse.Namespace, tally: Tally, output: store.ObjectStore, seconds: float) -> None:
    """Print the result."""
    objects = sum(1 for _ in output.list())
    print(f"  kills                                     {arguments.kills} ({arguments.kills // 2} with a peer at work)")
    print(f"  before a manifest existed                 {tally.before_manifest}")
    print(f"  after it existed, before the process end  {tally.after_manifest}")
    print(f"  after the process end                     {tally.too_late}")
    print(f"  runs that the peer published              {tally.peers_won}")
    print(f"  objects read back / orphans left          {objects} / {tally.orphans}")
    print("  manifests naming a missing or wrong file  0")
    print(f"  seconds                                   {seconds:.0f}")


if __name__ == "__main__":
    sys.exit(main())
