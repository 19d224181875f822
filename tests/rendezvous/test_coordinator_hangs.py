import pytest

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import coordinator
from rendezvous_groups import Group, Guilt

Code = exit_codes.ExitCode
Phase = coordinator.Phase


@pytest.mark.parametrize("suspect", ["frozen", "step", "start", "checkpoint", "evaluation", "export"])
def test_a_hang_takes_everybodys_stacks_then_the_judges_word_counts(suspect):
    group = Group(3, judge=Guilt(1, "Hung", "Rank 1 is stuck before step 8."))
    group.start(step=7)
    group.report(0, suspect=suspect, message="Rank 0 waits.")
    assert group.actions() == {0: "dump", 1: "dump", 2: "dump"}
    group.report(0, has_dump=True)
    group.report(1, has_dump=True)
    assert group.actions() == {0: "dump", 1: "dump", 2: "dump"}
    group.report(2, has_dump=True)
    assert group.actions() == {0: "stop", 1: "stop", 2: "stop"}
    assert [report.rank for report in group.judged[0]] == [0, 1, 2]
    group.follow()
    assert set(group.actions().values()) == {"run"}
    (record,) = group.order(0).recoveries
    assert (record.rank, record.reason, record.message) == (1, "Hung", "Rank 1 is stuck before step 8.")


def test_stacks_that_do_not_come_are_waited_for_three_seconds():
    group = Group(2)
    group.start()
    group.report(1, suspect="frozen", message="Rank 1 is frozen.")
    group.wait(2.8)
    assert group.actions() == {0: "dump", 1: "dump"}
    group.wait(0.4)
    assert group.actions() == {0: "stop", 1: "stop"}
    assert group.order(0).recoveries[-1].message == "Rank 1 is frozen."  # the judge named nobody
    assert group.order(0).recoveries[-1].rank is None


@pytest.mark.parametrize("held_up", [{"waiting_for": "input"}, {"waiting_for": "storage"}, {"phase": "checkpointing"}])
def test_wait_for_a_rank_that_waits_within_its_own_time_is_no_hang(held_up):
    group = Group(2)
    group.start()
    group.report(1, **held_up)
    group.report(0, suspect="step")
    group.wait(30)
    assert group.actions() == {0: "run", 1: "run"}
    group.report(1, **held_up, suspect="step")  # now its time is over too
    assert group.actions() == {0: "dump", 1: "dump"}


def test_a_suspicion_that_passes_while_stacks_are_taken_ends_nothing():
    group = Group(2)
    group.start()
    group.report(1, suspect="step")
    group.wait(1)
    group.report(1, suspect="")
    group.wait(3)
    assert group.actions() == {0: "run", 1: "run"}
    assert group.order(0).recoveries == ()


def test_a_rank_that_only_lost_its_peer_is_never_judged_guilty():
    group = Group(2, judge=Guilt(0, "Hung", "Rank 0 is behind."))
    group.start()
    group.report(0, state="ended", exit_code=Code.PEER_LOST)
    group.report(1, suspect="frozen", message="Rank 1 is frozen.")
    group.settle()
    (record,) = group.order(0).recoveries
    assert (record.rank, record.message) == (None, "Rank 1 is frozen.")


def test_a_death_while_stacks_are_taken_counts_where_the_judge_names_nobody():
    group = Group(2)
    group.start()
    group.report(0, suspect="step")
    group.report(1, state="ended", exit_code=-9)
    group.settle()
    assert group.order(0).recoveries[-1].rank == 1


def test_a_final_failure_while_stacks_are_taken_ends_the_job():
    group = Group(2, judge=Guilt(0, "Hung", "Rank 0 hangs."))
    group.start()
    group.report(0, suspect="step", has_dump=False)
    group.report(1, state="ended", exit_code=Code.DATA_CORRUPT)
    group.settle()
    assert group.leave_codes() == {0: Code.PEER_LOST, 1: Code.DATA_CORRUPT}
