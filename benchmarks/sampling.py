"""How well the order by blocks mixes beside a full permutation, what a seek costs, and what the next batch costs.

    python benchmarks/sampling.py

Mixing is measured in batches of 64 of 100,000 records of 110 KB (1,314 blocks) with 100 classes, once stored in the
order of a hash, as `imagetrain data pack` stores them, and once sorted by class, the worst case. "Label runs" are those
that a batch has when its records are shuffled; the ratio is to a full permutation's, whose own ratio is 1.
Rank correlations (Spearman) are of the position in an epoch with the stored place, and with the position in the next
epoch. Costs are CPU time of this process, and memory as tracemalloc sees it, of 10 million records in 17,000 shards.
Every line ends in its bound and in `ok` or `FAILED`; a bound that is missed makes the exit status 1.
"""

import functools
import itertools
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import blocks, class_weights, hashing, sampler

RECORD_BYTES = 110_000
BATCH = 64
CLASSES = 100
EPOCHS = 4

Ids = npt.NDArray[np.int64]


class Report:
    """Prints figures beside their bounds, and remembers whether all were met."""

    def __init__(self) -> None:
        self.is_met = True

    def check(self, name: str, value: float | np.floating[Any], least: float = -np.inf, most: float = np.inf) -> None:
        """Print one figure, which should be in [least, most]."""
        bound = f">= {least:.4g}" if most == np.inf else f"<= {most:.4g}"
        is_met = bool(least <= value <= most)
        self.is_met &= is_met
        print(f"{name:79} {value:10.4f}  {bound:10} {'ok' if is_met else 'FAILED'}", flush=True)


def plan(records: int, shards: int, *, is_whole: bool = False) -> blocks.Layout:
    """Plan a split of near-equal shards; `is_whole` gives it a full permutation."""
    bounds = np.arange(shards + 1) * records // shards
    size_bytes = records * RECORD_BYTES
    return blocks.plan(np.diff(bounds).tolist(), size_bytes, resident_bytes=size_bytes if is_whole else 0)


def read_batches(order: sampler.Sampler, epoch: int) -> list[Ids]:
    """Return all batches of an epoch."""
    first = epoch * order.steps_per_epoch
    return [order.batch_records(step) for step in range(first, first + order.steps_per_epoch)]


def expected_runs(labels: npt.NDArray[np.int64]) -> float:
    """Return the label runs that a batch has on average over all orders of its records: 1 + sum n_c (n - n_c) / n."""
    counts = np.bincount(labels).astype(float)
    return 1 + float((counts * (counts.sum() - counts)).sum() / counts.sum())


def rank_correlation(batches: list[Ids], others: list[Ids] | None = None) -> float:
    """Return Spearman's correlation of each record's step with its stored place, or with its step in another epoch."""
    ranks = step_of(batches)
    return float(np.corrcoef(ranks, step_of(others) if others else np.arange(len(ranks)))[0, 1])


def step_of(batches: list[Ids]) -> npt.NDArray[np.float64]:
    """Return the number of the batch that each record is in, by record id."""
    steps = np.empty(sum(map(len, batches)))
    for step, ids in enumerate(batches):
        steps[ids] = step
    return steps


def meet_again(batches: list[Ids], others: list[Ids]) -> float:
    """Return how many of a record's companions in a batch are companions in the other epoch too, on average."""
    steps = step_of(others).astype(np.int64)
    again = [float((counts * (counts - 1)).sum()) for counts in (np.bincount(steps[ids]) for ids in batches)]
    return sum(again) / sum(map(len, batches))


def measure_mixing(report: Report) -> None:
    """Compare the order by blocks with a full permutation."""
    records, shards = 100_000, 164
    by_blocks, whole = (
        sampler.Sampler(plan(records, shards, is_whole=is_whole), BATCH, 3) for is_whole in (False, True)
    )
    epochs = {order: [read_batches(order, epoch) for epoch in range(EPOCHS)] for order in (by_blocks, whole)}
    sorted_labels = np.arange(records) * CLASSES // records
    hashed_labels = sorted_labels[np.argsort(hashing.hash_u64(1, np.arange(records)))]
    for name, labels, least in (
        ("stored in hash order", hashed_labels, 0.995),
        ("stored sorted by class", sorted_labels, 0.9),
    ):
        runs = {
            order: np.mean([expected_runs(labels[ids]) for epoch in known for ids in epoch])
            for order, known in epochs.items()
        }
        report.check(f"{name}: label runs, ratio to a full permutation", runs[by_blocks] / runs[whole], least)
    # The correlation of n random ranks has a standard deviation of 1 / sqrt(n - 1); here n is the number of blocks,
    # for a block's records stay near one another.
    limit = 3 / np.sqrt(by_blocks.layout.blocks - 1)
    for order, name in ((by_blocks, "by blocks"), (whole, "full permutation")):
        known = epochs[order]
        stored = max(abs(rank_correlation(batches)) for batches in known)
        report.check(f"{name}: rank correlation of position and stored place, largest", stored, most=limit)
        following = max(abs(rank_correlation(one, two)) for one, two in itertools.pairwise(known))
        report.check(f"{name}: rank correlation of consecutive epochs, largest", following, most=limit)
        again = np.mean([meet_again(one, two) for one, two in itertools.pairwise(known)])
        report.check(f"{name}: companions of a record in its batch that it meets next epoch", again, most=2)


def measure_reads(report: Report) -> None:
    """Measure what is open at a time, and what workers read twice, in blocks of 8 MiB."""
    order = sampler.Sampler(plan(100_000, 164), BATCH, 3)
    batches = read_batches(order, 0)
    numbers = [np.unique(order.layout.block_of(ids)) for ids in batches]
    first, last = np.full(order.layout.blocks, len(batches)), np.zeros(order.layout.blocks, np.int64)
    for step, here in enumerate(numbers):
        first[here], last[here] = np.minimum(first[here], step), step
    change = np.bincount(first, minlength=len(batches) + 1) - np.bincount(last + 1, minlength=len(batches) + 1)
    report.check("blocks open at a step, most, of all lanes", float(np.cumsum(change).max()), most=4 * 4 + 4)
    for world_size in (1, 2, 4, 8, 16, 64):
        read = sum(count_span(order, batches, rank, world_size) for rank in range(world_size)) / order.records
        report.check(f"{world_size} workers: records from the first to the last of a block, per record", read, most=1.4)


def count_span(order: sampler.Sampler, batches: list[Ids], rank: int, world_size: int) -> int:
    """Return the records that a worker reads if it reads each block from its first to its last record there."""
    ids = np.sort(np.concatenate([batch[sampler.slice_for(len(batch), rank, world_size)] for batch in batches]))
    numbers = order.layout.block_of(ids)
    firsts, lasts = np.flatnonzero(np.diff(numbers, prepend=-1)), np.flatnonzero(np.diff(numbers, append=-1))
    return int((ids[lasts] - ids[firsts] + 1).sum())


def cpu_milliseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1000


def measure_costs(report: Report) -> None:
    """Measure planning, seeking and walking in 10 million records."""
    records, shards = 10_000_000, 17_000
    report.check("plan of 17,000 shards, CPU ms, once a run", cpu_milliseconds(lambda: plan(records, shards)), most=50)
    layout = plan(records, shards)
    steps = hashing.hash_u64(1, np.arange(41)) % np.uint64(90 * records // BATCH)

    def seek(step: int) -> None:
        sampler.Sampler(layout, BATCH, 3).batch_records(step)

    seeks = [cpu_milliseconds(functools.partial(seek, step)) for step in steps.tolist()]
    report.check("seek to a random step of any epoch, CPU ms, median of 41", np.median(seeks[1:]), most=5)
    tracemalloc.start()
    order = sampler.Sampler(plan(records, shards), BATCH, 3)
    order.batch_records(int(steps[0]))
    report.check("plan and seek, peak MB", tracemalloc.get_traced_memory()[1] / 1e6, most=50)
    tracemalloc.stop()
    walk = cpu_milliseconds(lambda: [order.batch_records(step) for step in range(5000)]) / 5000
    report.check("next batch of 64, CPU ms", walk, most=0.3)
    part = cpu_milliseconds(lambda: [order.worker_records(step, 7, 16) for step in range(5000)]) / 5000
    report.check("one worker's part of it, CPU ms", part, most=0.3)


def measure_repeats(report: Report) -> None:
    """Measure how many images a rare class's draws in a batch are of: copies stay with the blocks that hold them."""
    for percent, least in ((10, 0.8), (1, 0.2)):
        labels = (hashing.uniform(2, np.arange(100_000)) < percent / 100).astype(np.int32)
        weights = class_weights.ClassWeights.balanced(labels, 2)
        distinct = []
        for is_whole in (False, True):
            order = sampler.Sampler(plan(len(labels), 164, is_whole=is_whole), BATCH, 3, weights=weights)
            distinct.append(np.mean([len(np.unique(ids[labels[ids] == 1])) for ids in read_batches(order, 0)]))
        print(
            f"  of 32 draws of a class of {percent}%: {distinct[0]:.1f} images, {distinct[1]:.1f} permuted as a whole"
        )
        report.check(f"class-balanced: images of a class of {percent}%, ratio", distinct[0] / distinct[1], least)


def measure_weights(report: Report) -> None:
    """Measure class-balanced sampling of 10 million records with 1,000 classes of unlike sizes."""
    records = 10_000_000
    labels = (hashing.uniform(1, np.arange(records)) ** 3 * 1000).astype(np.int32)
    order = sampler.Sampler(plan(records, 17_000), BATCH, 3, weights=class_weights.ClassWeights.balanced(labels, 1000))
    tracemalloc.start()
    report.check(
        "class-balanced: start of an epoch, CPU ms", cpu_milliseconds(lambda: order.batch_records(0)), most=1000
    )
    report.check("class-balanced: start of an epoch, peak MB", tracemalloc.get_traced_memory()[1] / 1e6, most=50)
    tracemalloc.stop()
    walk = cpu_milliseconds(lambda: [order.batch_records(step) for step in range(5000)]) / 5000
    report.check("class-balanced: next batch of 64, CPU ms", walk, most=0.3)


def main() -> None:
    """Run the benchmark."""
    report = Report()
    for measure in (measure_mixing, measure_reads, measure_costs, measure_repeats, measure_weights):
        measure(report)
    sys.exit(not report.is_met)


if __name__ == "__main__":
    main()
