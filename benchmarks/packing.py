"""What packing takes: memory and time at any number of images, and images a second against any other version.

    python benchmarks/packing.py scale --images 10000000 --pack 200000
    python benchmarks/packing.py speed --images 2000 --against /tmp/old   # a checkout of the version to compare with

`scale` lists, divides and orders generated images and packs some of them (each stage with the process's peak memory);
it needs about 250 bytes of disk an image. `speed` packs one tree of JPEGs, in alternation by this version and by the
other, each in fresh processes, and prints the best of each and their ratio.
"""

import argparse
import functools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

import packing_source
from imagetrain_trainer.data import pack, pack_list

_RATIOS = {"train": 8.0, "validation": 1.0, "test": 1.0}
_HEIGHT, _WIDTH = 375, 500
_PROGRAM = """
import os, pathlib, sys, time
from imagetrain_trainer.data import pack
started = time.perf_counter()
pack.pack(pathlib.Path(sys.argv[1]), sys.argv[2])
print(time.perf_counter() - started, sum(os.times()[:4]))
"""


def peak_mib() -> float:
    """Return the most memory that this process has ever used, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, run: Callable[[], object]) -> None:
    """Run one stage and print its time and the peak memory so far."""
    started = time.perf_counter()
    run()
    print(f"{name:<34} {time.perf_counter() - started:8.1f} s   peak memory {peak_mib():6.0f} MiB", flush=True)


class _Enough(Exception):  # noqa: N818 - no error
    """As many images are packed as were asked for."""


def measure_scale(images: int, packed: int, group_size: int | None, folder: pathlib.Path) -> None:
    """List, divide and order generated images; then pack some of them, twice: the second run goes on."""
    source = packing_source.GeneratedSource(images, group_size)
    path = folder / "list.sqlite"
    print(f"{images:,} images, memory before {peak_mib():.0f} MiB")
    measure("list, divide and order", lambda: pack_list.write_list(path, source, _RATIOS, 0, lambda _: None))
    print(f"{'work list':<34} {path.stat().st_size / 2**20:8.0f} MiB on disk")
    options = pack.PackOptions(ratios=(8, 1, 1), work_dir=folder / "work", shard_size_bytes=8 << 20)
    (folder / "work").mkdir()
    path.rename(folder / "work" / "list.sqlite")
    for run in (1, 2):
        measure(
            f"check the list, pack up to {run * packed:,}",
            functools.partial(_pack_some, source, folder, options, run * packed),
        )
    files = list((folder / "out").rglob("*.tfrecord"))
    print(f"{len(files)} shards of {sum(file.stat().st_size for file in files) / 2**20:.0f} MiB")


def _pack_some(
    source: packing_source.GeneratedSource, folder: pathlib.Path, options: pack.PackOptions, count: int
) -> None:
    def stop(progress: pack.PackProgress) -> None:
        if progress.stage == "pack" and progress.done >= count:
            raise _Enough

    try:
        pack.pack(source, str(folder / "out"), options, stop)
    except _Enough:
        return


def write_tree(folder: pathlib.Path, images: int) -> int:
    """Write JPEGs of 500 x 375 with some texture; return their bytes."""
    random = np.random.default_rng(0)
    total = 0
    for number in range(images):
        coarse = random.integers(0, 256, (48, 64, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
        path = folder / f"class {number % 10}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=93)
        total += path.stat().st_size
    return total


def measure_speed(images: int, against: pathlib.Path, rounds: int, folder: pathlib.Path) -> None:
    """Pack one tree by both versions in turn."""
    total = write_tree(folder / "tree", images)
    here = pathlib.Path(__file__).parents[1]
    best: dict[str, float] = {}
    cpu: dict[str, float] = {}
    for number in range(rounds):
        for name, root in (("other", against), ("this", here)):
            paths = [str(root / part) for part in ("trainer", "api")]
            arguments = [sys.executable, "-c", _PROGRAM, str(folder / "tree"), str(folder / f"{name}-{number}")]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
            output = subprocess.run(arguments, env=environment, check=True, capture_output=True).stdout
            seconds, cpu_seconds = map(float, output.split())
            best[name] = min(best.get(name, seconds), seconds)
            cpu[name] = min(cpu.get(name, cpu_seconds), cpu_seconds)
    for name, seconds in best.items():
        rates = f"{images / seconds:8.0f} images/s {total / seconds / 1e6:8.1f} MB/s"
        print(f"{name:<6} {rates} {images / cpu[name]:8.0f} images per CPU-second, start included")
    ratios = (best["other"] / best["this"], cpu["other"] / cpu["this"])
    print(f"ratio this / other: {ratios[0]:.2f}, per CPU-second {ratios[1]:.2f}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scale", "speed"])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--pack", type=int, default=200_000, help="images to pack in each of two runs (scale)")
    parser.add_argument("--group-size", type=int, help="images in each group (scale)")
    parser.add_argument("--against", type=pathlib.Path, help="checkout of another version (speed)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, help="where to work.  [default: a temporary folder]")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        if chosen.what == "scale":
            measure_scale(chosen.images, chosen.pack, chosen.group_size, pathlib.Path(folder))
        elif chosen.against is None:
            parser.error("speed needs --against")
        else:
            measure_speed(chosen.images, chosen.against, chosen.rounds, pathlib.Path(folder))


if __name__ == "__main__":
    main()
