"""Whether a group that shrinks and grows trains as one that does not: 4 -> 2 -> 4 workers in the middle of a run.

    python benchmarks/elastic.py [--seeds 5] [--first-seed 1] [--record FILE]

Each seed trains a small model twice with four workers: undisturbed, and with all processes of two workers stopped
(SIGSTOP) until the others have gone on without them for 30 steps. Every image carries its number in its pixels, and
each training step of each rank writes down the numbers that the model was given (tests/chaos/imagetrain_chaos). Checked
are: no step and no sample of any epoch is lost or trained on twice in what the final weights come from, and each step
has the images of the undisturbed run in the same order.

The final losses (validation, last epoch) of the two are compared with the noise: the standard deviation of the
undisturbed final losses among the seeds. A run differs from its twin by the order in which floats are added up.

With `--record` the figures of each seed are kept in a file, and seeds that are in it already are not trained again, so
that the benchmark can be done in parts. The exit status is 1 when a sample is lost or repeated, or when the mean
difference of the losses exceeds the noise.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "cluster"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "chaos"))

from imagetrain_chaos import elastic, jobs, traces

_SIZES = [elastic.WORKERS, elastic.FEWEST, elastic.WORKERS]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures of one seed."""

    seed: int
    sizes: list[int]
    steps: int
    samples: int
    lost: int
    repeated: int
    faults: list[str]
    has_same_order: bool
    undisturbed_loss: float
    elastic_loss: float
    seconds: float

    @property
    def difference(self) -> float:
        """By how much the final losses differ."""
        return abs(self.elastic_loss - self.undisturbed_loss)

    @property
    def is_exact(self) -> bool:
        """Tell whether every sample was trained on as it should be, while the group shrank and grew."""
        is_whole = self.lost == self.repeated == 0 and not self.faults and self.has_same_order
        return is_whole and self.sizes == _SIZES and self.steps == elastic.EPOCHS * jobs.STEPS_PER_EPOCH


def main() -> None:
    """Train all seeds and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--record", type=pathlib.Path)
    arguments = parser.parse_args()
    rows = _read(arguments.record)
    sys.stdout.write(
        f"{'seed':>4} {'sizes':>8} {'lost':>5} {'twice':>6} {'order':>6} {'undisturbed':>12} {'elastic':>9}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        data = elastic.pack_numbered(pathlib.Path(name) / "images")
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            if seed not in rows:
                rows[seed] = measure(pathlib.Path(name) / f"seed-{seed}", data, seed)
                _write(arguments.record, rows)
            _tell(rows[seed])
    sys.exit(0 if _judge([rows[seed] for seed in sorted(rows)]) else 1)


def measure(folder: pathlib.Path, data: pathlib.Path, seed: int) -> Row:
    """Train one seed twice."""
    began = time.monotonic()
    folder.mkdir()
    undisturbed = elastic.train(folder / "undisturbed", data, seed=seed, is_disturbed=False)
    ended = elastic.train(folder / "elastic", data, seed=seed, is_disturbed=True)
    trained = ended.trace.trained()
    losses = traces.count_losses(trained, jobs.STEPS_PER_EPOCH, elastic.RECORDS)
    return Row(
        seed=seed,
        sizes=ended.trace.sizes(),
        steps=len(trained),
        samples=sum(len(images) for images in trained.values()),
        lost=losses.lost,
        repeated=losses.repeated,
        faults=ended.trace.find_faults() + list(ended.leaks),
        has_same_order=trained == undisturbed.trace.trained(),
        undisturbed_loss=undisturbed.final_loss,
        elastic_loss=ended.final_loss,
        seconds=round(time.monotonic() - began, 1),
    )


def _tell(row: Row) -> None:
    sizes = "-".join(map(str, row.sizes))
    order = "same" if row.has_same_order else "other"
    sys.stdout.write(
        f"{row.seed:>4} {sizes:>8} {row.lost:>5} {row.repeated:>6} {order:>6} {row.undisturbed_loss:>12.6f} "
        f"{row.elastic_loss:>9.6f}  {row.samples} samples in {row.steps} steps, {row.seconds:.0f} s\n"
    )
    for fault in row.faults:
        sys.stdout.write(f"     {fault}\n")
    sys.stdout.flush()


def _judge(rows: list[Row]) -> bool:
    """Print the verdict over all seeds and return whether the goals are met."""
    difference = statistics.mean(row.difference for row in rows)
    is_exact = all(row.is_exact for row in rows)
    sys.stdout.write(f"samples: {'every one once an epoch' if is_exact else 'NOT as they should be'}\n")
    if len(rows) < 2:
        sys.stdout.write(f"final loss: differs by {difference:.2e}\n")
        return is_exact
    noise = statistics.stdev(row.undisturbed_loss for row in rows)
    sys.stdout.write(
        f"final loss: differs by {difference:.2e} on average, {max(row.difference for row in rows):.2e} at most; "
        f"seeds differ by {noise:.2e} (standard deviation of {len(rows)})\n"
    )
    return is_exact and difference <= noise


def _read(path: pathlib.Path | None) -> dict[int, Row]:
    if path is None or not path.exists():
        return {}
    return {row["seed"]: Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))}


def _write(path: pathlib.Path | None, rows: dict[int, Row]) -> None:
    if path is not None:
        path.write_text(json.dumps([dataclasses.asdict(row) for row in rows.values()], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
