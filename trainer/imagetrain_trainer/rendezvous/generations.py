"""One generation while it runs: its members, which of them failed, are done or are under suspicion. Pure."""

from collections.abc import Sequence

from imagetrain_trainer.rendezvous import failures, messages, seats, settings
from imagetrain_trainer.worker import guilt

Kind = failures.Kind

_FEWEST_PEERS = 2


class Generation:
    """The processes that one RUN asks for."""

    def __init__(
        self, number: int, reports: Sequence[messages.MemberReport], everybody: seats.Seats, limits: settings.Settings
    ) -> None:
        """Make one of the supervisors that reported, in the order of their ranks."""
        self.number = number
        self.members = tuple(
            messages.Member(worker=report.rank, host=report.host, collective_port=report.collective_port)
            for report in reports
        )
        self.resume_step = newest_common_step([report.local_steps for report in reports])
        self.is_growing = False  # its processes stop at their next checkpoint, to start again with more members
        self._seats = everybody
        self._limits = limits
        self._incarnations = {report.rank: report.incarnation for report in reports}
        self._failures: dict[int, failures.Failure] = {}  # in the order of time
        self._done: set[int] = set()
        self._evidence: dict[int, messages.MemberReport] = {}  # last report of each process while it lived

    def has(self, rank: int, incarnation: str) -> bool:
        """Tell whether this supervisor belongs to it."""
        return self._incarnations.get(rank) == incarnation

    def has_rank(self, rank: int) -> bool:
        """Tell whether a supervisor of this rank belongs to it."""
        return rank in self._incarnations

    def bar(self, sequence: int) -> None:
        """Hold each member for busy until it has reported this generation or obeyed a later order."""
        for rank, incarnation in self._incarnations.items():
            self._seats.bar(rank, incarnation, self.number, sequence)

    @property
    def failed(self) -> tuple[failures.Failure, ...]:
        """The failures so far, in the order of time."""
        return tuple(self._failures.values())

    @property
    def is_done(self) -> bool:
        """Tell whether every process is done."""
        return self._done == self._incarnations.keys()

    @property
    def is_told(self) -> bool:
        """Tell whether every process has ended, so that nothing more will be learnt."""
        is_sure = not any(each.can_heal for each in self._failures.values())
        return is_sure and len(self._failures) + len(self._done) == len(self._incarnations)

    @property
    def evidence(self) -> list[messages.MemberReport]:
        """The last report of each process while it lived, by rank."""
        return [self._evidence[rank] for rank in sorted(self._evidence)]

    def witness(self, report: messages.MemberReport) -> None:
        """Keep a member's report of a living process."""
        if report.has_process:
            self._evidence[report.rank] = report

    def find_failures(self, running_seconds: float) -> None:
        """Bring `failed` and `is_done` up to date; a connection that came back was no failure."""
        for rank in self._incarnations:
            known = self._failures.get(rank)
            if rank in self._done or (known is not None and not known.can_heal):
                continue
            found = self._find_failure(rank, running_seconds)
            if found is not None:
                self._failures[rank] = found
            elif known is not None:
                del self._failures[rank]

    def _find_failure(self, rank: int, running_seconds: float) -> failures.Failure | None:
        absence = self._seats.explain_absence(rank, self._incarnations[rank])
        report = self._seats.report(rank)
        if absence is not None or report is None:
            return absence
        if report.generation < self.number:
            limit = self._limits.start_timeout_seconds
            message = f"Rank {rank} did not start its training process within {limit:g} s."
            return failures.explain_absence(rank, message, reason="Hung") if running_seconds > limit else None
        if report.has_process:
            return None
        failure = failures.explain_end(report)
        if failure is None:
            self._done.add(rank)
        return failure

    def isolation(self) -> failures.Failure | None:
        """Return the failure of rank 0, where it lost all its peers at the same moment.

        The coordinator sits beside rank 0, so a cut through that host's network looks to it as if all others had gone.
        With a single peer nobody can tell which of the two was cut off.
        """
        peers = [rank for rank in self._incarnations if rank != 0]
        lost = [rank for rank in peers if rank in self._failures and self._failures[rank].kind is Kind.GONE]
        if len(peers) < _FEWEST_PEERS or lost != peers or not self._seats.vanished_together(peers):
            return None
        message = f"Rank 0 lost all {len(peers)} others at the same moment; its own host or network is likely at fault."
        return failures.explain_absence(0, message)

    def running(self) -> list[messages.MemberReport]:
        """Return the reports of the processes that are there, of supervisors that can be asked."""
        return [
            report
            for report in self._seats.reports(self._incarnations)
            if report.generation == self.number
            and report.has_process
            and self._seats.is_present(report.rank, self._incarnations[report.rank])
        ]

    def suspects(self) -> list[messages.MemberReport]:
        """Return the reports of the processes that their watchdogs suspect.

        None while the group only waits for one that waits within its own, longer time: for a storage that is away, say.
        """
        running = self.running()
        return [] if guilt.is_excused(running) else [report for report in running if report.suspect]

    def quiet(self, now: float) -> list[int]:
        """Return the ranks that may be about to be found frozen, the longest silent first."""
        silent = {
            rank: max(self._seats.silent_seconds(rank, now), self._process_silence(rank))
            for rank in self._incarnations
            if rank not in self._failures and rank not in self._done
        }
        found = [rank for rank, seconds in silent.items() if seconds > self._limits.quiet_seconds]
        return sorted(found, key=lambda rank: -silent[rank])

    def _process_silence(self, rank: int) -> float:
        report = self._evidence.get(rank)
        return report.silent_seconds if report is not None and report.state == "running" else 0.0


def newest_common_step(local_steps: Sequence[Sequence[int]]) -> int | None:
    """Return the newest step of which every member has a checkpoint on its own disk."""
    common = set(local_steps[0]).intersection(*local_steps[1:]) if local_steps else set()
    return max(common, default=None)
