"""How much of its time an accelerator computes when its input comes from slow, failing S3.

    python benchmarks/input_stalls.py [--steps 600] [--step-seconds 0.1] [--batch 64] [--record-bytes 110000]

The accelerator is stood for by a sleep of one step's time, as in MLPerf Storage, whose pass mark is 0.90; everything
before it is real: a data set on versitygw behind a proxy that delays, stalls, throttles and resets, the reader with its
hedges and retries, CRC checks and batches. Use is the time of the same steps with batches from memory, divided by the
time with batches from storage, after the first batch. Exits with 1 when a figure is missed.
`make bench-input` builds the server.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))

from imagetrain_trainer.data import prefetch, reader, sampler
from imagetrain_trainer.storage import store
from input_bench import measures, places

URI = f"s3://{places.BUCKET}/set/"
RECORDS = 6000
FAULTS = {
    "first_byte_delay_seconds": 0.15,
    "stall_fraction": 0.01,
    "stall_seconds": 2.0,
    "slow_down_fraction": 0.005,
    "reset_fraction": 0.001,
}


def compute(batches: Iterator[object], steps: int, step_seconds: float) -> float:
    """Take a batch and compute, again and again; return the seconds."""
    started = time.perf_counter()
    for _ in range(steps):
        next(batches)
        time.sleep(step_seconds)
    return time.perf_counter() - started


def measure_use(name: str, arguments: argparse.Namespace) -> tuple[float, reader.ReadCounters]:
    """Train from storage and from memory in turn; return the use and what was read."""
    with reader.DatasetReader(store.open_store(URI), "train", reader.ReaderOptions(in_memory_bytes=0)) as records:
        plan = sampler.Sampler(records.layout, arguments.batch)
        with prefetch.Prefetcher(records, map(plan.batch_records, range(arguments.steps + 1))) as ahead:
            first = next(ahead)
            seconds = compute(ahead, arguments.steps, arguments.step_seconds)
            stalled, counters = ahead.stall_seconds, records.counters
    memory = compute(iter([first] * arguments.steps), arguments.steps, arguments.step_seconds)
    requests = counters.requests
    print(
        f"{name}: {seconds:.1f} s against {memory:.1f} s from memory; waited {stalled:.2f} s, the first batch included"
    )
    print(
        f"  {requests.requests} requests, {requests.hedges} of them hedges ({requests.hedges_won} won), "
        f"{requests.retries} retries, {requests.throttled} throttled; first byte after "
        f"{requests.latency_p50_seconds:.3f} s (median), {requests.latency_p99_seconds:.3f} s (p99)",
        flush=True,
    )
    return memory / seconds, counters


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--step-seconds", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--record-bytes", type=int, default=110_000)
    arguments = parser.parse_args()
    verdict = measures.Verdict()
    with places.versitygw() as server, places.faulty(server) as proxy:
        places.write_data_set(store.open_store(URI), RECORDS, arguments.record_bytes)
        clean, _ = measure_use("clean store", arguments)
        proxy.set(**FAULTS)
        faulty, counters = measure_use("bad store", arguments)
        print("the proxy's own count:", {key: value for key, value in proxy.counts().items() if value})
    requests = counters.requests
    extra = requests.hedges / max(1, requests.requests - requests.hedges - requests.retries)
    verdict.at_least("clean store: use of the accelerator", clean, 0.995)
    verdict.at_least("bad store: use of the accelerator", faulty, 0.98)
    verdict.at_most("bad store: extra requests of hedging", extra, 0.02)
    return 0 if verdict.is_reached else 1


if __name__ == "__main__":
    sys.exit(main())
