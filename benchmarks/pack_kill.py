"""Kill -9 a pack at random moments, start it again, and compare the bytes with those of an undisturbed pack.

    python benchmarks/pack_kill.py --kills 100

Every run is killed after a random number of progress reports and up to 50 ms more, wherever it is then: listing,
encoding, writing a shard, journaling, comparing or publishing. When a killed pack is done nevertheless, it is compared
and begun anew. It prints how many kills hit, and how many data sets were finished, and fails when one differs.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

from imagetrain_trainer.data import dataset

_IMAGES = 3000
_MOST_REPORTS = 14  # a pack in one go makes about so many
_PROGRAM = """
import pathlib, sys
import packing_source
from imagetrain_trainer.data import pack
options = pack.PackOptions(shard_size_bytes=16384, processes=int(sys.argv[3]), work_dir=pathlib.Path(sys.argv[2]))
pack.pack(packing_source.GeneratedSource(int(sys.argv[4])), sys.argv[1], options, lambda p: print(p.stage, flush=True))
"""


def read_folder(folder: pathlib.Path) -> dict[str, bytes]:
    """Return the bytes of all files, by their paths."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(folder: pathlib.Path, processes: int) -> "subprocess.Popen[str]":
    """Start a pack to `folder`/out."""
    arguments = [str(folder / "out"), str(folder / "work"), str(processes), str(_IMAGES)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def kill_once(folder: pathlib.Path, moments: random.Random) -> str:
    """Start a pack, kill it at a random moment, and return the stage that it was in then."""
    stage = "start"
    with start(folder, moments.choice([1, 2])) as process:
        assert process.stdout is not None
        for _ in range(moments.randint(0, _MOST_REPORTS)):
            stage = process.stdout.readline().strip() or "end"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.0, 0.05))
            return "done before"
        process.kill()
    return stage


def main() -> None:
    """Kill as often as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    moments = random.Random(chosen.seed)  # noqa: S311 - no secret
    stages: collections.Counter[str] = collections.Counter()
    finished = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        clean = folder / "clean"
        with start(clean, 1) as process:
            process.communicate()
        expected = read_folder(clean / "out")
        while sum(stages.values()) - stages["done before"] < chosen.kills:
            stages[kill_once(folder, moments)] += 1
            if (folder / "out" / dataset.KEY).exists():
                finished += 1
                if read_folder(folder / "out") != expected:
                    sys.exit(f"the bytes differ after {sum(stages.values())} runs (seed {chosen.seed})")
                shutil.rmtree(folder / "out")
        with start(folder, 2) as process:
            process.communicate()
        if read_folder(folder / "out") != expected:
            sys.exit(f"the bytes differ at the end (seed {chosen.seed})")
    print(f"{len(expected)} files, killed {chosen.kills} times: {dict(stages)}")
    print(f"{finished + 1} data sets were finished, each with the bytes of an undisturbed pack")


if __name__ == "__main__":
    main()
