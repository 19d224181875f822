from imagetrain_api import progress
from imagetrain_client.executor import events, tracking


def chief(**fields):
    return progress.Progress(total_epochs=4, total_steps=40, images=160, **{"phase": "training", **fields})


def observe(tracker, *states):
    return [event for state in states for event in tracker.observe({0: state, 1: state}, 0)]


def epochs(told):
    return [event for event in told if isinstance(event, events.EpochEnded)]


def test_an_epoch_is_told_once_with_its_own_figures():
    told = observe(
        tracking.ProgressTracker(2),
        chief(step=9, loss=0.6, accuracy=0.8),
        chief(step=10, epoch=1, phase="evaluating", loss=0.5, accuracy=0.9),
        chief(step=11, epoch=1, loss=0.1, accuracy=1.0, validation_loss=0.4, validation_accuracy=0.95),
        chief(step=12, epoch=1, loss=0.1, accuracy=1.0, validation_loss=0.4, validation_accuracy=0.95),
    )
    (epoch,) = epochs(told)
    assert (epoch.epoch, epoch.loss, epoch.accuracy, epoch.validation_loss) == (1, 0.5, 0.9, 0.4)


def test_an_epoch_whose_end_was_missed_is_told_with_the_last_figures_seen_in_it():
    told = observe(
        tracking.ProgressTracker(2),
        chief(step=9, loss=0.6, accuracy=0.8),
        chief(step=12, epoch=1, loss=0.1, accuracy=1.0, validation_loss=0.4, validation_accuracy=0.95),
    )
    assert [epoch.loss for epoch in epochs(told)] == [0.6]


def test_a_resumed_run_does_not_tell_old_epochs():
    resumed = progress.Progress(phase="training", epoch=2, step=20, total_epochs=4, total_steps=40)
    assert not epochs(observe(tracking.ProgressTracker(2), progress.Progress(), resumed))


def test_unchanged_progress_tells_nothing():
    assert len(observe(tracking.ProgressTracker(2), chief(step=1), chief(step=1))) == 1


def test_workers_count_as_ready_after_their_start():
    tracker = tracking.ProgressTracker(3)
    (event,) = tracker.observe({0: chief(), 1: progress.Progress(rank=1)}, 0)
    assert (event.workers_ready, event.workers) == (1, 3)


def test_a_worker_that_gets_ready_later_is_told_though_the_chief_stays_as_it_was():
    tracker = tracking.ProgressTracker(2)
    tracker.observe({0: chief(step=3)}, 0)
    (event,) = tracker.observe({0: chief(step=3), 1: chief(step=3)}, 0)
    assert event.workers_ready == 2


def test_a_group_that_shrinks_and_grows_is_told_once_each_and_only_its_members_are_ready():
    tracker = tracking.ProgressTracker(4)
    whole = {rank: chief(rank=rank, generation=1, workers=4, step=9) for rank in range(4)}
    told = tracker.observe(whole, 0)
    starting = progress.Progress(phase="starting", generation=2, workers=2)
    told += tracker.observe({**whole, 0: starting}, 0)
    small = {rank: chief(rank=rank, generation=2, workers=2, step=10) for rank in range(2)}
    told += tracker.observe({**whole, **small}, 0)
    told += tracker.observe({**whole, **small, 0: chief(generation=2, workers=2, step=11)}, 0)
    states = [event for event in told if isinstance(event, events.Progressed)]
    assert [(event.workers_ready, event.workers) for event in states] == [(4, 4), (0, 2), (2, 2), (2, 2)]
    assert {event.full_size for event in states} == {4}
    told += tracker.observe({rank: chief(rank=rank, generation=3, workers=4, step=20) for rank in range(4)}, 0)
    resized = [event for event in told if isinstance(event, events.Resized)]
    assert [(each.workers_before, each.workers, each.step) for each in resized] == [(4, 2, 10), (2, 4, 20)]


def test_the_newest_checkpoint_and_step_outlive_an_attempt():
    tracker = tracking.ProgressTracker(1)
    observe(tracker, chief(step=9, checkpoint_step=7))
    tracker.forget_attempt()
    observe(tracker, progress.Progress())
    assert (tracker.checkpoint_step, tracker.highest_step, tracker.phase) == (7, 9, "starting")


def recovery(generation, **changes):
    return progress.Recovery(
        **{
            "generation": generation,
            "reason": "Killed",
            "rank": 1,
            "message": "Rank 1 was killed (SIGKILL).",
            "step": 12,
            "resumed_step": 10,
            "resumed_at": 9.0,
            "lost_seconds": 8.4,
            **changes,
        }
    )


def recovered(told):
    return [event.message for event in told if isinstance(event, events.Recovered)]


def test_a_recovery_is_told_once_when_it_is_over():
    tracker = tracking.ProgressTracker(2)
    running = recovery(1, resumed_at=None)
    assert recovered(observe(tracker, chief(step=12), chief(phase="starting", recoveries=(running,)))) == []
    told = observe(
        tracker,
        chief(step=13, recoveries=(recovery(1),)),
        chief(step=14, recoveries=(recovery(1),)),
        chief(step=20, recoveries=(recovery(1), recovery(2, rank=0, message="Rank 0 froze.", step=19))),
    )
    assert recovered(told) == [
        "Rank 1 was killed (SIGKILL) at step 12; the group goes on from step 10 in place, 8.4 s lost.",
        "Rank 0 froze at step 19; the group goes on from step 10 in place, 8.4 s lost.",
    ]
    assert tracker.recoveries == 2


def test_the_next_attempt_may_count_its_generations_anew():
    tracker = tracking.ProgressTracker(2)
    observe(tracker, chief(step=13, recoveries=(recovery(1),)))
    tracker.forget_attempt()
    assert len(recovered(observe(tracker, chief(step=15, recoveries=(recovery(1),))))) == 1
    assert tracker.recoveries == 2


def test_a_recovery_that_no_poll_has_seen_is_told_at_the_end():
    tracker = tracking.ProgressTracker(2)
    observe(tracker, chief(step=13, recoveries=(recovery(1),)))
    outcome = progress.WorkerOutcome(exit_code=0, reason="Completed", recoveries=(recovery(1), recovery(2)))
    assert [event.recovery.generation for event in tracker.conclude(outcome)] == [2]
    assert tracker.conclude(None) == []
