"""What the coordinator of a large group costs: CPU, memory and the time of a recovery.

    python benchmarks/rendezvous_scale.py [--workers 64] [--seconds 20]

The server runs alone in this process, as it does in rank 0's supervisor; the members are threads of another one. They
report each half second with a step that goes up. Then one process "is killed": the time is taken until every other
member was told to stop, and from the last `idle` until every member was told to run again. Every line ends in its
bound and in `ok` or `FAILED`; a bound that is missed makes the exit status 1.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import threading
import time

from imagetrain_api import schema
from imagetrain_trainer.rendezvous import failures, member, messages, server, settings

MOST_CPU_PERCENT = 15.0  # of one core
MOST_MEBIBYTES = 8.0  # beside what the same process has for one member
MOST_RECOVERY_SECONDS = 2.0


def _judge(_reports: object, _now: float) -> failures.Guilt:
    raise AssertionError("no group hangs here")


def _resident_mebibytes() -> float:
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Crowd:
    """All members of a group in one process."""

    def __init__(self, port: int, workers: int) -> None:
        limits = settings.Settings(workers=workers)
        self._reports = [
            messages.MemberReport(rank=rank, incarnation=f"crowd-{rank}", host=f"host-{rank}", collective_port=2222)
            for rank in range(workers)
        ]
        self._members = [member.Member(("127.0.0.1", port), "run", report, limits) for report in self._reports]

    def wait_for(self, action: str, generation: int, but: int = -1) -> float:
        """Return when everybody was told so."""
        while not all(
            (each.order().action, each.order().generation) == (action, generation)
            for rank, each in enumerate(self._members)
            if rank != but
        ):
            time.sleep(0.002)
        return time.monotonic()

    def report(self, rank: int, **changes: object) -> None:
        """Change what one member reports."""
        self._reports[rank] = schema.replace(self._reports[rank], **changes)
        self._members[rank].report(self._reports[rank])

    def report_all(self, **changes: object) -> None:
        """Change what all report."""
        for rank in range(len(self._members)):
            self.report(rank, **changes)

    def train(self, seconds: float) -> None:
        """Make steps."""
        for step in range(1, int(seconds / 0.25)):
            self.report_all(step=step, entered_step=step + 1, local_steps=tuple(range(0, step, 50)))
            time.sleep(0.25)


def run_crowd(port: int, workers: int, seconds: float) -> None:
    """Play the members; print the times of a recovery."""
    crowd = Crowd(port, workers)
    crowd.wait_for("run", 1)
    crowd.report_all(generation=1, state="running", phase="training")
    sys.stdout.write("running\n")
    sys.stdout.flush()
    crowd.train(seconds)
    killed = workers // 2
    began = time.monotonic()
    crowd.report(killed, state="ended", exit_code=-9)
    stopped = crowd.wait_for("stop", 1, but=killed) - began
    crowd.report_all(state="idle", exit_code=None)
    began = time.monotonic()
    sys.stdout.write(f"{stopped} {crowd.wait_for('run', 2) - began}\n")
    sys.stdout.flush()


def measure(workers: int, seconds: float) -> tuple[float, float, float, float]:
    """Return CPU percent, resident MiB, seconds to stop and seconds to start again."""
    served = server.Server(("127.0.0.1", 0), "run", settings.Settings(workers=workers), _judge)
    command = [sys.executable, __file__, "--port", str(served.port), "--workers", str(workers)]
    with subprocess.Popen([*command, "--seconds", str(seconds + 2)], stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout is not None
        crowd.stdout.readline()
        time.sleep(1)
        cpu, began = _cpu_seconds(), time.monotonic()
        threading.Event().wait(seconds)
        percent = 100 * (_cpu_seconds() - cpu) / (time.monotonic() - began)
        resident = _resident_mebibytes()
        stop, start = map(float, crowd.stdout.readline().split())
    served.close(0)
    return percent, resident, stop, start


def main() -> None:
    """Measure one member and many."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        run_crowd(options.port, options.workers, options.seconds)
        return
    _, alone, *_ = measure(2, 2)
    percent, resident, stop, start = measure(options.workers, options.seconds)
    is_met = True
    for name, value, bound in (
        (f"CPU of the coordinator with {options.workers} members, % of a core", percent, MOST_CPU_PERCENT),
        (f"its memory beside that of 2 members ({alone:.1f} MiB), MiB", resident - alone, MOST_MEBIBYTES),
        ("from a killed process until all are told to stop, s", stop, MOST_RECOVERY_SECONDS),
        ("from the last idle member until all are told to run, s", start, MOST_RECOVERY_SECONDS),
    ):
        is_met &= value <= bound
        print(f"{name:68} {value:8.3f}  <= {bound:g}  {'ok' if value <= bound else 'FAILED'}", flush=True)
    sys.exit(not is_met)


if __name__ == "__main__":
    main()
