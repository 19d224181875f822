import signal

import pytest

from imagetrain_client.executor import policy, replacing


def killed(at=0.0, **fields):
    return policy.WorkerEnd(**{"rank": 1, "status": -signal.SIGKILL, "at_seconds": at, **fields})


@pytest.mark.parametrize(
    ("end", "is_lost"),
    [
        (killed(), True),
        (killed(status=-signal.SIGSEGV), True),
        # A traceback's status without any account of it, and the one of an executable that cannot be started.
        (killed(status=1), True),
        (killed(status=126), True),
        # Its coordinator let it leave, or it said itself why it goes.
        (killed(status=80, has_word=True), False),
        (killed(status=110, has_word=True), False),
        (killed(status=82), False),
        (killed(status=0), False),
        # This command ended it.
        (killed(was_ended=True), False),
    ],
)
def test_only_a_worker_that_died_without_a_word_is_lost(end, is_lost):
    assert policy.is_lost(end) is is_lost
    assert (replacing.Replacements(2, 2, lambda: True).decide(end) is not None) is is_lost


def test_a_worker_that_dies_soon_again_waits_and_then_the_group_starts_anew():
    replacements = replacing.Replacements(2, 2, lambda: True)
    now, delays = 100.0, []
    while (made := replacements.decide(killed(now))) is not None:
        delays.append(made.delay_seconds)
        replacements.note_start(1, now + made.delay_seconds)
        now += made.delay_seconds + replacing.QUICK_SECONDS / 2
    assert delays == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("rank", "is_spared"), [(0, False), (1, True)])
def test_a_group_that_goes_on_without_a_worker_waits_on_for_it(rank, is_spared):
    replacements = replacing.Replacements(2, 1, lambda: True)
    made = None
    for _ in range(12):
        made = replacements.decide(killed(rank=rank))
        replacements.note_start(rank, 0.0)
    assert (made is not None) is is_spared
    assert made is None or made.delay_seconds == policy.MAX_BACKOFF_SECONDS


def test_a_worker_that_was_there_for_long_is_replaced_at_once_again():
    replacements = replacing.Replacements(2, 2, lambda: True)
    for now in (0.0, 1000.0, 2000.0, 3000.0, 4000.0):
        made = replacements.decide(killed(now))
        assert made is not None
        assert made.delay_seconds == 0
        assert "SIGKILL" in made.message
        replacements.note_start(1, now)


def test_ranks_are_counted_apart():
    replacements = replacing.Replacements(3, 3, lambda: True)
    for rank in (1, 2):
        replacements.decide(killed(rank=rank))
        replacements.note_start(rank, 0.0)
    assert [replacements.decide(killed(5.0, rank=rank)).delay_seconds for rank in (1, 2)] == [1.0, 1.0]


def test_a_lone_worker_and_one_beyond_the_limit_are_not_replaced():
    assert replacing.Replacements(1, 1, lambda: True).decide(killed()) is None
    assert replacing.Replacements(2, 2, lambda: False).decide(killed()) is None
