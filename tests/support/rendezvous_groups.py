"""A group of made-up supervisors around a coordinator, on a clock of its own."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from imagetrain_api import schema
from imagetrain_trainer.rendezvous import coordinator, messages, settings

TICK_SECONDS = 0.1
UNIX = 1_700_000_000.0


@dataclasses.dataclass(frozen=True)
class Guilt:
    """What the made-up judge says."""

    rank: int | None = None
    reason: str = "Hung"
    message: str = ""


class Group:
    """Supervisors that report each tick; they do nothing by themselves but `follow` what they are told."""

    def __init__(self, workers: int, *, judge: Guilt = Guilt(), **limits: Any) -> None:
        self.now = 1000.0
        self.unix_offset = UNIX
        self.guilt = judge
        self.judged: list[Sequence[messages.MemberReport]] = []
        self.limits = settings.Settings(workers=workers, **limits)
        self.coordinator = self.build_coordinator()
        self.reports: dict[int, messages.MemberReport] = {}  # of those that are connected
        self.mute: set[int] = set()

    def build_coordinator(self) -> coordinator.Coordinator:
        return coordinator.Coordinator(
            self.limits, self._judge, now=self.now, wall_clock=lambda: self.now + self.unix_offset
        )

    def _judge(self, reports: Sequence[messages.MemberReport], _now: float) -> Guilt:
        self.judged.append(reports)
        return self.guilt

    def join(self, *ranks: int, hello: dict[str, Any] | None = None, **fields: Any) -> None:
        """Connect new supervisors."""
        for rank in ranks:
            values = {"incarnation": f"first-{rank}", "host": f"host-{rank}", "collective_port": 2222, **fields}
            self.reports[rank] = messages.MemberReport(rank=rank, **values)
            self.coordinator.join(messages.Hello(run_id="run", report=self.reports[rank], **(hello or {})), self.now)

    def lose(self, *ranks: int) -> dict[int, messages.MemberReport]:
        """End connections; return the last reports for `come_back`."""
        lost = {rank: self.reports.pop(rank) for rank in ranks}
        for rank, report in lost.items():
            self.coordinator.lose(rank, report.incarnation, self.now)
        return lost

    def come_back(self, lost: dict[int, messages.MemberReport]) -> None:
        """Connect the same supervisors again."""
        for rank, report in lost.items():
            self.reports[rank] = report
            self.coordinator.join(messages.Hello(run_id="run", report=report), self.now)

    def report(self, *ranks: int, **changes: Any) -> None:
        """Change what some supervisors report, and send it."""
        for rank in ranks:
            self.reports[rank] = schema.replace(self.reports[rank], **changes)
            self.coordinator.receive(self.reports[rank], self.now)

    def wait(self, seconds: float, *, follows: bool = False) -> None:
        """Let time pass; whoever is connected and not mute reports each tick."""
        for _ in range(max(1, round(seconds / TICK_SECONDS))):
            self.now += TICK_SECONDS
            for rank in self.reports:
                if rank not in self.mute:
                    self.hear(rank)
                    self.coordinator.receive(self.reports[rank], self.now)
            self.coordinator.tick(self.now)
            if follows:
                self.follow()

    def hear(self, rank: int) -> None:
        """Have a supervisor say that it obeys, unless it is to start a process, which `follow` does."""
        order, report = self.order(rank), self.reports[rank]
        if order.action != "run" or order.generation <= report.generation:
            self.reports[rank] = schema.replace(report, heard=order.sequence)

    def order(self, rank: int) -> messages.Order:
        return self.coordinator.order_for(rank, self.reports[rank].incarnation)

    def actions(self) -> dict[int, str]:
        return {rank: self.order(rank).action for rank in sorted(self.reports)}

    def follow(self, **running: Any) -> None:
        """Let every supervisor do what it is told; new processes are running with these fields."""
        for rank in sorted(self.reports):
            order, report = self.order(rank), self.reports[rank]
            self.reports[rank] = schema.replace(report, heard=order.sequence)
            if order.action == "run" and order.generation > report.generation:
                start = {"step": order.resume_step or 0, "entered_step": (order.resume_step or 0) + 1, **running}
                self.report(
                    rank,
                    generation=order.generation,
                    state="running",
                    phase="training",
                    exit_code=None,
                    message="",
                    suspect="",
                    has_dump=False,
                    silent_seconds=0.0,
                    **start,
                )
            elif order.action == "stop":
                self.report(rank, state="idle", exit_code=None, suspect="", silent_seconds=0.0)
            elif order.action == "dump":
                self.report(rank, has_dump=True)

    def start(self, *ranks: int, **running: Any) -> None:
        """Bring everybody in and let them run the first generation."""
        self.join(*(ranks or range(self.limits.workers)))
        self.follow(**running)
        assert set(self.actions().values()) == {"run"}

    def settle(self) -> None:
        """Let time pass until the cause of a failure is found."""
        for _ in range(2000):
            if self.coordinator.phase in (coordinator.Phase.WAITING, coordinator.Phase.LEAVING):
                return
            self.wait(TICK_SECONDS)
        raise AssertionError(f"still {self.coordinator.phase} after 200 s")

    def leave_codes(self) -> dict[int, int | None]:
        assert set(self.actions().values()) == {"leave"}
        return {rank: self.order(rank).exit_code for rank in sorted(self.reports)}
