"""How each kind of fault is done to a run, and how it ends. Which and when is plan.py's."""

import collections
import contextlib
import dataclasses
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import fault_proxy
import s3_servers
from imagetrain_chaos import clock, disk, gate, local_network, memory, plan, run_processes, runs, save_phases

_SLOW_SECONDS = 0.3  # a step takes so much longer: far behind its peers, far from a step deadline
_SAVE_SECONDS = 60.0  # by then the next save is due on any machine
_WITHIN_SECONDS = 0.008  # a phase of a small save takes about so long
_FLAKY: Mapping[str, float] = {
    "first_byte_delay_seconds": 0.05,
    "stall_fraction": 0.1,
    "stall_seconds": 1.0,
    "slow_down_fraction": 0.15,
    "error_fraction": 0.1,
    "reset_fraction": 0.1,
    "truncate_fraction": 0.1,
    "flip_fraction": 0.05,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What around a run can be harmed; None: not there, and no fault of its kind is planned.

    Attributes:
        gate: files that hold a rank's steps up.
        proxy: all that the run reads from and writes to S3 passes it.
        network: wires and names between the workers.
        wall_clock: wall clock of the run's processes.
        small_disk: the run's own disk.
        memory_group: the run's control group.
        met: what the chief's saver was at when a process was killed in a save, and how often.
    """

    gate: gate.GateFolder
    proxy: fault_proxy.FaultProxy[s3_servers.VersitygwServer] | None = None
    network: local_network.LocalNetwork | None = None
    wall_clock: clock.Clock | None = None
    small_disk: disk.SmallDisk | None = None
    memory_group: memory.MemoryGroup | None = None
    met: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


End = Callable[[], None]
"""Ends a fault; nothing happens where it has ended by itself."""


@contextlib.contextmanager
def fault(planned: plan.Fault, run: runs.Run, site: Site) -> Iterator[None]:
    """Wait for the fault's step, begin it, and end it with the block."""
    run.wait_for_step(planned.at_step)
    end = BEGIN[planned.kind](planned, run, site)
    try:
        yield
    finally:
        end()


def happen(planned: Sequence[plan.Fault], run: runs.Run, site: Site) -> None:
    """Let faults happen one after the other, each for its time, and wait until the run has got over each."""
    for each in planned:
        recorded = len(run.failures())
        with fault(each, run, site):
            time.sleep(each.seconds)
            if each.kind in ENDED_BY_RECOVERY:
                run.wait_for_record(recorded + 1)
        run.wait_for_next_step()
        run.wait_until_over()


def overlap(planned: Sequence[plan.Fault], run: runs.Run, site: Site) -> None:
    """Let faults happen within the first of them, and wait until the run has got over all."""
    with fault(planned[0], run, site):
        over = time.monotonic() + planned[0].seconds
        with contextlib.ExitStack() as stack:
            for each in planned[1:]:
                stack.enter_context(fault(each, run, site))
            time.sleep(max(0.0, over - time.monotonic()))
    run.wait_for_record(1)
    run.wait_for_next_step()


ENDED_BY_RECOVERY = frozenset(
    {"kill_training", "kill_saving", "kill_supervisor", "freeze_training", "block", "out_of_memory"}
)
"""These cost a recovery in any case; others may be got over without."""


def _kill_training(planned: plan.Fault, run: runs.Run, _site: Site) -> End:
    run.training(planned.rank).send(signal.SIGKILL)
    return do_nothing


def _kill_saving(planned: plan.Fault, run: runs.Run, site: Site) -> End:
    """Kill it while the chief is at a drawn phase of its next save."""
    draw = random.Random(planned.at_step)
    process, phases = run.training(planned.rank), save_phases.Phases(site.gate.saves)
    phase, deadline = draw.choice(save_phases.PHASES), time.monotonic() + _SAVE_SECONDS
    if not phases.wait_for(phase, while_=lambda: time.monotonic() < deadline and run.is_running()):
        raise runs.RunFailedError(f"no {phase} of a save within {_SAVE_SECONDS:g} s:\n{run.explain()}")
    time.sleep(draw.uniform(0, _WITHIN_SECONDS))
    process.send(signal.SIGKILL)
    site.met[phases.read()[0]] += 1
    return do_nothing


def _kill_supervisor(planned: plan.Fault, run: runs.Run, _site: Site) -> End:
    run.supervisor(planned.rank).send(signal.SIGKILL)
    return do_nothing


def _freeze_training(planned: plan.Fault, run: runs.Run, _site: Site) -> End:
    process = run.training(planned.rank)
    process.send(signal.SIGSTOP)
    return lambda: _thaw(process)


def _freeze_supervisor(planned: plan.Fault, run: runs.Run, _site: Site) -> End:
    process = run.supervisor(planned.rank)
    process.send(signal.SIGSTOP)
    return lambda: _thaw(process)


def _thaw(process: run_processes.RunProcess) -> None:
    process.send(signal.SIGCONT)


def _block(planned: plan.Fault, run: runs.Run, site: Site) -> End:
    """Block a step, but not a process's first: that one has the time of a start, which is longer than a test waits."""
    while True:
        site.gate.request("block", planned.rank)
        run.wait_for(lambda: site.gate.takers("block", planned.rank), f"a blocked step of rank {planned.rank}")
        if run.has_stepped():
            return lambda: site.gate.release("block", planned.rank)
        site.gate.release("block", planned.rank)
        run.wait_for_next_step()


def _slow(planned: plan.Fault, _run: runs.Run, site: Site) -> End:
    site.gate.slow(planned.rank, _SLOW_SECONDS)
    return lambda: site.gate.slow(planned.rank, 0.0)


def _out_of_memory(planned: plan.Fault, run: runs.Run, site: Site) -> End:
    assert site.memory_group is not None
    site.memory_group.tighten()
    site.gate.request("allocate", planned.rank)
    run.wait_for(lambda: site.gate.takers("allocate", planned.rank), f"a swelling step of rank {planned.rank}")

    def end() -> None:
        assert site.memory_group is not None
        site.memory_group.loosen()
        site.gate.release("allocate", planned.rank)

    return end


def _partition(planned: plan.Fault, _run: runs.Run, site: Site) -> End:
    assert site.network is not None
    site.network.cut(planned.rank)
    return lambda: site.network.heal(planned.rank) if site.network else None


def _dns(_planned: plan.Fault, _run: runs.Run, site: Site) -> End:
    assert site.network is not None
    site.network.silence_names()
    return site.network.answer_names


def _s3_outage(_planned: plan.Fault, _run: runs.Run, site: Site) -> End:
    assert site.proxy is not None
    site.proxy.set(is_down=True)
    return site.proxy.clear


def _s3_flaky(planned: plan.Fault, _run: runs.Run, site: Site) -> End:
    assert site.proxy is not None
    site.proxy.set(seed=planned.at_step, **_FLAKY)
    return site.proxy.clear


def _clock_jump(_planned: plan.Fault, _run: runs.Run, site: Site) -> End:
    assert site.wall_clock is not None
    site.wall_clock.jump()
    return do_nothing


def _disk_full(_planned: plan.Fault, run: runs.Run, site: Site) -> End:
    assert site.small_disk is not None
    site.small_disk.fill(run.pid)
    return lambda: site.small_disk.free(run.pid) if site.small_disk else None


def do_nothing() -> None:
    """Do nothing: the fault is over."""


BEGIN: Mapping[str, Callable[[plan.Fault, runs.Run, Site], End]] = {
    "kill_training": _kill_training,
    "kill_saving": _kill_saving,
    "kill_supervisor": _kill_supervisor,
    "freeze_training": _freeze_training,
    "freeze_supervisor": _freeze_supervisor,
    "block": _block,
    "slow": _slow,
    "out_of_memory": _out_of_memory,
    "partition": _partition,
    "dns": _dns,
    "s3_outage": _s3_outage,
    "s3_flaky": _s3_flaky,
    "clock_jump": _clock_jump,
    "disk_full": _disk_full,
}
