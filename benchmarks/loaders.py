"""The reader beside MosaicML streaming and WebDataset: the same records from the same S3 server, each in its own form.

    python benchmarks/loaders.py --peers-python .venv-peers/bin/python [--records 4000] [--json FILE]

Records are random bytes in JPEG's place, handed over as bytes in shuffled batches of 64; nothing is decoded. Each
loader is a process of its own with the settings that its documentation recommends (`peers/*_loader.py`). Epochs of
MosaicML and WebDataset are read with 0 and with 2 DataLoader workers, and the better one counts for each figure; all
else is measured with 0. The best of several rounds counts, the loaders in turn. Times count from the moment when a
process has loaded its modules. There is no verdict: the status is 0 unless a run fails.
`make bench-loaders` makes the environment of the two and the server.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

import s3_servers
from imagetrain_trainer.storage import store
from input_bench import loader_systems, places
from peers import loader_run

_SHUFFLE_BLOCK = 1200
"""Records; about what the product's sampler has open (128 MiB) at 110 KB a record."""
_WORKERS = "2"
"""Of a DataLoader, where it has some: as many as this machine has cores."""
_DAMAGE_SECONDS = 120.0
"""For an epoch with a damaged record, which takes some seconds where the loader does not wait for ever."""
_NOT_THERE = "-"


@dataclasses.dataclass(slots=True)
class Bench:
    """One run of the benchmark."""

    work: pathlib.Path
    server: s3_servers.VersitygwServer
    urls: pathlib.Path
    records: int
    rounds: int
    results: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def middle(self) -> int:
        """The step that a resumed run begins with."""
        return self.records // loader_run.BATCH // 2

    def note(self, figure: str, system: loader_systems.System, value: str) -> None:
        """Keep a figure, and print it for whoever waits."""
        self.results.setdefault(figure, {})[system.name] = value
        print(f"{system.name}: {figure}: {value}", file=sys.stderr, flush=True)

    def run(
        self, system: loader_systems.System, *arguments: str, folder: pathlib.Path | None = None
    ) -> loader_run.Figures:
        """Run one process that must not fail."""
        (figures,) = system.run(self.work, *arguments, folder=folder)
        if figures.error:
            raise RuntimeError(f"{system.name} failed: {figures.error}")
        return figures


def measure_epochs(bench: Bench, systems: list[loader_systems.System]) -> None:
    """Read epochs from S3, then from copies on the local disk."""
    runs: dict[str, list[loader_run.Figures]] = {system.name: [] for system in systems}
    copies: dict[str, list[loader_run.Figures]] = {system.name: [] for system in systems}
    for system in systems:
        bench.run(system, folder=_folder_of(bench, system))
    for _ in range(bench.rounds):
        for system in systems:
            for way in _ways_of(system):
                runs[system.name].append(bench.run(way))
                copies[system.name].append(bench.run(way, folder=_folder_of(bench, system)))
    for system in systems:
        for kind, figures in (("S3", runs[system.name]), ("local copies", copies[system.name])):
            best = min(figures, key=lambda one: one.seconds)
            first = min(one.first_batch_seconds for one in figures)
            cpu = min(one.cpu_seconds / one.images for one in figures)
            bench.note(f"images/s, epoch from {kind}", system, f"{best.images / best.seconds:,.0f}")
            bench.note(f"CPU ms per image, {kind}", system, f"{1000 * cpu:.3f}")
            bench.note(f"first batch, s, {kind}", system, f"{first:.2f}")


def _ways_of(system: loader_systems.System) -> list[loader_systems.System]:
    if not system.has_workers:
        return [system]
    return [system.with_options("--workers", workers) for workers in ("0", _WORKERS)]


def _folder_of(bench: Bench, system: loader_systems.System) -> pathlib.Path:
    return bench.work / f"copies-{system.name}".replace(" ", "-")


def measure_resume(bench: Bench, system: loader_systems.System, expected: list[int]) -> None:
    """Time the first batch of a run that goes on in the middle of an epoch, on an empty disk and with copies there."""
    arguments = _resume_arguments(bench, system)
    figures = [bench.run(system, *arguments) for _ in range(2)]
    bench.note("first batch of a resume, s, S3", system, f"{min(one.first_batch_seconds for one in figures):.2f}")
    is_right = all(sorted(one.first_ids) == sorted(expected) for one in figures)
    bench.note("resume gives the batch that was next", system, "yes" if is_right else "no")
    copies = [bench.run(system, *arguments, folder=_folder_of(bench, system)) for _ in range(2)]
    bench.note(
        "first batch of a resume, s, local copies", system, f"{min(one.first_batch_seconds for one in copies):.2f}"
    )


def _resume_arguments(bench: Bench, system: loader_systems.System) -> list[str]:
    if system.script != "streaming_loader.py":
        return ["--skip", str(bench.middle), "--take", "1"]
    state = bench.work / "state.json"
    if not state.exists() or system.name not in bench.results.get("first batch of a resume, s, S3", {}):
        bench.run(system, "--skip", str(bench.middle), "--take", str(bench.middle + 1), "--save-state", str(state))
    return ["--state", str(state), "--take", "1"]


def count_resume_bytes(bench: Bench, systems: list[loader_systems.System]) -> None:
    """Count what the server sends to a resumed run until its first batch is there and the process has ended."""
    with places.faulty(bench.server) as proxy:
        loader_systems.write_urls(proxy.server, bench.urls)
        for system in systems:
            arguments = _resume_arguments(bench, system)
            before = proxy.counts()["body_bytes"]
            bench.run(system, *arguments)
            megabytes = (proxy.counts()["body_bytes"] - before) / 1e6
            bench.note("MB read from S3 by a resume", system, f"{megabytes:,.0f}")


def measure_order(bench: Bench, system: loader_systems.System) -> loader_run.Figures:
    """Compare the batches of two ranks, and of other DataLoader workers, with those of one; return the latter."""
    (one,) = system.run(bench.work, "--check")
    (again,) = system.run(bench.work, "--check")
    ranks = system.run(bench.work, "--check", ranks=2)
    pairs = [[], []] if not all(rank.batches for rank in ranks) else [rank.batches for rank in ranks]
    merged = [first + second for first, second in zip(*pairs, strict=False)]
    bench.note("same order when run again", system, _compare(one.batches, again.batches))
    bench.note("same steps with 2 ranks", system, _compare(one.batches, merged))
    if system.has_workers:
        (more,) = system.run(bench.work, "--check", "--workers", _WORKERS)
        bench.note("same steps with other DataLoader workers", system, _compare(one.batches, more.batches))
    else:
        bench.note("same steps with other DataLoader workers", system, _NOT_THERE)
    for figure, batches in (
        ("1 rank", one.batches),
        ("2 ranks", [batch for rank in ranks for batch in rank.batches]),
    ):
        seen = [record for batch in batches for record in batch]
        twice, missing = len(seen) - len(set(seen)), bench.records - len(set(seen))
        bench.note(f"records twice / never in an epoch, {figure}", system, f"{twice} / {missing}")
    uneven = abs(len(ranks[0].batches) - len(ranks[1].batches))
    bench.note("steps that one of 2 ranks has more", system, str(uneven))
    return one


def _compare(one: list[list[int]], other: list[list[int]]) -> str:
    """Say how far two sequences of steps agree."""
    if one == other:
        return "yes, to the order"
    if list(map(sorted, one)) == list(map(sorted, other)):
        return "yes, as sets"
    same = sum(sorted(first) == sorted(second) for first, second in zip(one, other, strict=False))
    return f"no ({same} of {max(len(one), len(other))})"


def measure_damage(bench: Bench, system: loader_systems.System, good: loader_run.Figures) -> None:
    """Flip a bit in a record's bytes on the server and read an epoch."""
    shard = sorted((bench.server.root / places.BUCKET).glob(system.shards))[1]
    middle = shard.stat().st_size // 2
    _flip(shard, middle)
    try:
        ways = {"as it is": system}
        if system.script == "streaming_loader.py":
            ways["validate_hash"] = system.with_options("--validate-hash", "xxh64")
        said = []
        for name, way in ways.items():
            (figures,) = way.run(bench.work, "--check", timeout_seconds=_DAMAGE_SECONDS)
            wrong = sum(good.checksums[record] != value for record, value in figures.checksums.items())
            used = f"{wrong} wrong, {bench.records - len(figures.checksums)} never given"
            verdict = f"{figures.error[:60]}..., {wrong} wrong" if figures.error else f"no error; {used}"
            said.append(verdict if len(ways) == 1 else f"{name}: {verdict}")
    finally:
        _flip(shard, middle)
    bench.note("a flipped bit in a record", system, "; ".join(said))


def _flip(file: pathlib.Path, place: int) -> None:
    with file.open("r+b") as stream:
        stream.seek(place)
        (value,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes((value ^ 1,)))


def write_forms(bench: Bench, systems: list[loader_systems.System], record_bytes: int) -> None:
    """Write the records in the three forms."""
    places.write_data_set(store.open_store(systems[0].source), bench.records, record_bytes)
    systems[1].write(systems[1].source, bench.records, record_bytes)
    client = bench.server.client()
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        systems[3].write(folder, bench.records, record_bytes)
        for tar in sorted(pathlib.Path(folder).iterdir()):
            client.upload_file(str(tar), places.BUCKET, f"tars/{tar.name}")


def compare(bench: Bench, peers_python: str, record_bytes: int) -> None:
    """Measure everything."""
    systems = loader_systems.make_systems(peers_python, bench.urls, _SHUFFLE_BLOCK)
    write_forms(bench, systems, record_bytes)
    loader_systems.write_urls(bench.server, bench.urls)
    measure_epochs(bench, systems)
    straight = {system.name: measure_order(bench, system) for system in systems}
    if len({json.dumps(sorted(one.checksums.items())) for one in straight.values()}) != 1:
        raise RuntimeError("the loaders must give the same records")
    for system in systems:
        measure_resume(bench, system, straight[system.name].batches[bench.middle])
    for system in (systems[0], systems[1], systems[3]):
        measure_damage(bench, system, straight[system.name])
    count_resume_bytes(bench, systems)


def print_table(results: dict[str, dict[str, str]]) -> None:
    """Print Markdown."""
    names = list(next(iter(results.values())))
    names = max((list(row) for row in results.values()), key=len, default=names)
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for figure, row in results.items():
        print(f"| {figure} | " + " | ".join(row.get(name, _NOT_THERE) for name in names) + " |")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", required=True, help="of the environment of peers/requirements.txt")
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--record-bytes", type=int, default=110_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    with places.versitygw() as server, tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        bench = Bench(folder, server, folder / "urls.json", arguments.records, arguments.rounds)
        compare(bench, arguments.peers_python, arguments.record_bytes)
    print_table(bench.results)
    if arguments.json:
        arguments.json.write_text(json.dumps(bench.results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
