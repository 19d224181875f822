"""Random groups in which anything may happen at any time; what must hold then holds always, and everything ends."""

import dataclasses
import itertools

import hypothesis
import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from imagetrain_api import exit_codes, schema
from imagetrain_trainer.rendezvous import coordinator, messages, settings
from rendezvous_groups import Guilt

Code = exit_codes.ExitCode
Phase = coordinator.Phase

WORKERS = 3
RETRYABLE = (-9, -11, 1, Code.INTERNAL, Code.PEER_LOST, Code.HUNG, Code.STORAGE_UNAVAILABLE, Code.OUT_OF_MEMORY)
RANKS = st.integers(0, WORKERS - 1)
_COUNTER = itertools.count()


@dataclasses.dataclass
class Supervisor:
    """One made-up supervisor process; it does what it is told, when its turn comes."""

    report: messages.MemberReport
    order: messages.Order = dataclasses.field(default_factory=messages.Order)
    is_connected: bool = False
    is_frozen: bool = False
    is_deaf: bool = False  # what it is sent is under way for a while; what it sends arrives
    is_gone: bool = False
    started: list = dataclasses.field(default_factory=list)


def _acts_on(supervisor):
    """Return the generation of which it has a process, or may start one by what it has heard."""
    order, report = supervisor.order, supervisor.report
    if supervisor.is_gone:
        return None
    if order.action in ("run", "checkpoint_and_stop") and order.generation > report.generation:
        return order.generation
    return report.generation if report.has_process else None


class Groups(stateful.RuleBasedStateMachine):
    @stateful.initialize(min_members=st.sampled_from([None, 2]), max_restarts=st.sampled_from([1, 30]), guilty=RANKS)
    def begin(self, min_members, max_restarts, guilty):
        self.now, self.unix = 0.0, 1e9
        self.guilty = guilty
        self.limits = settings.Settings(workers=WORKERS, min_members=min_members, max_restarts=max_restarts)
        self.seats = {}
        self.told = {}  # generation -> {rank: incarnation} that were told to run
        self.members = {}  # generation -> {rank: incarnation} of all its members, whether they have heard of it or not
        self.deaths = set()  # (generation, rank) of processes that died of their own accord
        self._new_coordinator()
        for rank in range(WORKERS):
            self.new_supervisor(rank)

    def _new_coordinator(self):
        self.coordinator = coordinator.Coordinator(
            self.limits, lambda _reports, _now: Guilt(self.guilty, "Hung", "It hangs."), now=self.now,
            wall_clock=lambda: self.unix,
        )  # fmt: skip
        for supervisor in self.seats.values():
            supervisor.is_connected = False

    def _send(self, supervisor):
        rank = supervisor.report.rank
        if supervisor.is_frozen or supervisor.is_gone:
            return
        if supervisor.is_connected and not self.coordinator.is_silent(rank, supervisor.report.incarnation):
            self.coordinator.receive(supervisor.report, self.now)
        else:
            order = supervisor.order
            hello = messages.Hello(
                run_id="run",
                report=supervisor.report,
                generation=order.generation,
                recoveries=order.recoveries,
                restarts=order.restarts,
            )
            self.coordinator.join(hello, self.now)
            supervisor.is_connected = True

    def _change(self, supervisor, **changes):
        supervisor.report = schema.replace(supervisor.report, **changes)
        self._send(supervisor)
        self._hear()

    def _hear(self):
        """Give every supervisor its order, and look whether it may be given."""
        for rank, supervisor in self.seats.items():
            if supervisor.is_frozen or supervisor.is_deaf or supervisor.is_gone or not supervisor.is_connected:
                continue
            was, order = supervisor.order, self.coordinator.order_for(rank, supervisor.report.incarnation)
            supervisor.order = order
            if order.action == "run" and (was.action, was.generation) != ("run", order.generation):
                self._look_at_start(rank, supervisor, order)

    def _look_at_start(self, rank, supervisor, order):
        told = self.told.setdefault(order.generation, {})
        # Nobody runs twice in one generation, and nobody takes another's place within it.
        assert told.setdefault(rank, supervisor.report.incarnation) == supervisor.report.incarnation
        assert rank in [member.worker for member in order.members]
        incarnations = {member.worker: self.seats[member.worker].report.incarnation for member in order.members}
        self.members.setdefault(order.generation, incarnations)
        for member in order.members:
            other = self.seats[member.worker]
            # No process of an earlier generation is there any more, as far as anybody can know.
            assert other.report.generation == order.generation or not other.report.has_process or other.is_gone
        if supervisor.report.generation < order.generation:
            assert len(order.members) >= self.limits.needed

    # What may happen.

    @stateful.rule(rank=RANKS)
    def new_supervisor(self, rank):
        if rank in self.seats and not self.seats[rank].is_gone:
            return
        report = messages.MemberReport(
            rank=rank, incarnation=f"i{next(_COUNTER)}", host="h", collective_port=1, local_steps=(10,)
        )
        self.seats[rank] = Supervisor(report)
        self._send(self.seats[rank])
        self._hear()

    @stateful.rule(rank=RANKS, is_noticed=st.booleans())
    def lose_supervisor(self, rank, is_noticed):
        supervisor = self.seats[rank]
        supervisor.is_gone = True  # its process dies with it
        if is_noticed and supervisor.is_connected:
            supervisor.is_connected = False
            self.coordinator.lose(rank, supervisor.report.incarnation, self.now)
        self._hear()

    @stateful.rule(rank=RANKS)
    def lose_connection(self, rank):
        supervisor = self.seats[rank]
        if supervisor.is_connected:
            supervisor.is_connected = False
            self.coordinator.lose(rank, supervisor.report.incarnation, self.now)
            self._hear()

    @stateful.rule(rank=RANKS)
    def freeze(self, rank):
        self.seats[rank].is_frozen = True

    @stateful.rule(rank=RANKS)
    def thaw(self, rank):
        self.seats[rank].is_frozen = False
        self.seats[rank].is_deaf = True  # what it was sent meanwhile is not read yet: the order from before holds

    @stateful.rule(rank=RANKS)
    def go_deaf(self, rank):
        self.seats[rank].is_deaf = True

    @stateful.rule(rank=RANKS)
    def listen(self, rank):
        self.seats[rank].is_deaf = False
        self._hear()

    @stateful.rule(rank=RANKS, status=st.sampled_from((0, *RETRYABLE)))
    def end_process(self, rank, status):
        supervisor = self.seats[rank]
        if supervisor.report.has_process and not supervisor.is_gone:
            if status not in (0, Code.PEER_LOST):
                self.deaths.add((supervisor.report.generation, rank))
            self._change(supervisor, state="ended", exit_code=status)

    @stateful.rule(rank=RANKS, suspect=st.sampled_from(["", "step", "frozen"]))
    def suspect(self, rank, suspect):
        supervisor = self.seats[rank]
        if supervisor.report.has_process and not supervisor.is_gone:
            self._change(supervisor, suspect=suspect, has_dump=False)

    @stateful.rule(steps=st.integers(1, 5))
    def make_steps(self, steps):
        for supervisor in list(self.seats.values()):
            if supervisor.report.state == "running" and not supervisor.is_gone and not supervisor.is_frozen:
                step = supervisor.report.step + steps
                self._change(supervisor, step=step, entered_step=step + 1)

    @stateful.rule()
    def follow(self):
        for supervisor in list(self.seats.values()):
            self._obey(supervisor)

    def _obey(self, supervisor):
        order, report = supervisor.order, supervisor.report
        if supervisor.is_frozen or supervisor.is_gone:
            return
        supervisor.report = schema.replace(report, heard=order.sequence)
        if order.action in ("run", "checkpoint_and_stop") and order.generation > report.generation:
            supervisor.started.append(order.generation)
            self._change(
                supervisor, generation=order.generation, state="running", phase="training", exit_code=None,
                suspect="", has_dump=False, step=order.resume_step or 0, entered_step=(order.resume_step or 0) + 1,
            )  # fmt: skip
        elif order.action == "dump":
            self._change(supervisor, has_dump=True)
        elif order.action in ("stop", "leave") and report.has_process:
            self._change(supervisor, state="idle", suspect="")
        elif order.action == "checkpoint_and_stop" and report.has_process:
            self._change(supervisor, state="ended", exit_code=Code.PREEMPTED, suspect="")

    @stateful.rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 40.0]))
    def wait(self, seconds):
        for _ in range(max(1, round(seconds / 0.5))):
            self.now += min(seconds, 0.5)
            self.unix += min(seconds, 0.5)
            for supervisor in self.seats.values():
                self._send(supervisor)
            self.coordinator.tick(self.now)
            self._hear()

    @stateful.rule(seconds=st.floats(-1e6, 1e6))
    def set_wall_clock(self, seconds):
        before = [self.coordinator.phase, *(each.order.action for each in self.seats.values())]
        self.unix = max(0.0, self.unix + seconds)
        self.coordinator.tick(self.now)
        self._hear()
        assert before[0] == self.coordinator.phase or before[0] is not Phase.RUNNING or self._has_trouble()

    @stateful.rule(seconds=st.floats(3, 1e5))
    def freeze_the_coordinator_itself(self, seconds):
        was_running = self.coordinator.phase is Phase.RUNNING
        self.now += seconds
        for supervisor in self.seats.values():
            self._send(supervisor)
        self.coordinator.tick(self.now)
        self._hear()
        assert not was_running or self.coordinator.phase is Phase.RUNNING or self._has_trouble()

    @stateful.rule()
    def restart_the_coordinator(self):
        self.seats[0].is_gone = True  # it lives in rank 0's supervisor
        # A number that nobody who can speak has heard of may be given anew.
        heard = max((e.order.generation for e in self.seats.values() if not e.is_gone and not e.is_frozen), default=0)
        self.told = {number: ranks for number, ranks in self.told.items() if number <= heard}
        self.members = {number: ranks for number, ranks in self.members.items() if number <= heard}
        self._new_coordinator()
        for supervisor in self.seats.values():
            self._send(supervisor)
        self._hear()

    def _has_trouble(self):
        return any(
            each.is_gone
            or each.is_frozen
            or not each.is_connected
            or each.report.suspect
            or not each.report.has_process
            for each in self.seats.values()
        )

    # What holds always.

    @stateful.invariant()
    def nobody_starts_twice_in_a_generation(self):
        for supervisor in self.seats.values():
            assert len(set(supervisor.started)) == len(supervisor.started)

    @stateful.invariant()
    def those_that_run_run_the_same_generation(self):
        """A frozen one that was left out may act on its old order for a moment; none of the members ever does."""
        acting = {rank: generation for rank, each in self.seats.items() if (generation := _acts_on(each))}
        for generation in acting.values():
            members = self.members.get(generation, {})
            assert all(
                other >= generation
                for rank, other in acting.items()
                if members.get(rank) == self.seats[rank].report.incarnation
            )

    @stateful.invariant()
    def whoever_only_lost_its_peer_is_not_guilty(self):
        for record in self.coordinator.recoveries(self.now):
            assert record.reason != "PeerLost" or record.rank is None
            assert record.lost_seconds >= 0

    def teardown(self):
        """Everything ends: with the supervisors there and obedient the group runs to its end or leaves."""
        if not hasattr(self, "seats"):
            return
        for _ in range(400):
            if self.coordinator.is_over:
                break
            for rank in range(WORKERS):
                self.thaw(rank)
                self.listen(rank)
                self.new_supervisor(rank)
            self.wait(1.0)
            self.follow()
            if self.coordinator.phase is Phase.RUNNING:
                for rank in range(WORKERS):
                    self.suspect(rank, "")
                    if self.seats[rank].order.action == "run":
                        self.end_process(rank, 0)
        assert self.coordinator.is_over


Groups.TestCase.settings = hypothesis.settings(
    max_examples=500, stateful_step_count=40, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
TestGroups = pytest.mark.timeout(300)(Groups.TestCase)
