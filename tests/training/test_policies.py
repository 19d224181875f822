import dataclasses
import json

from imagetrain_api import training_settings as ts
from imagetrain_trainer.training import policies, run_state


def advanced(settings: ts.TrainingSettings, losses: list[float]) -> list[policies.PolicyState]:
    state, states = policies.PolicyState(), []
    for epoch, loss in enumerate(losses, start=1):
        state = policies.advance(state, settings, step=10 * epoch, validation_loss=loss, validation_accuracy=1 - loss)
        states.append(state)
    return states


def test_without_policies_nothing_changes() -> None:
    assert advanced(ts.TrainingSettings(), [1.0, 2.0, 3.0])[-1] == policies.PolicyState()


def test_learning_rate_is_cut_after_patience_epochs_without_improvement() -> None:
    rule = ts.PlateauSettings(factor=0.5, patience_epochs=2)
    settings = ts.TrainingSettings(reduce_learning_rate_on_plateau=rule)
    factors = [state.factor for state in advanced(settings, [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5])]
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]


def test_cooldown_epochs_are_not_counted() -> None:
    rule = ts.PlateauSettings(factor=0.5, patience_epochs=1, cooldown_epochs=2)
    settings = ts.TrainingSettings(reduce_learning_rate_on_plateau=rule)
    factors = [state.factor for state in advanced(settings, [1.0] * 6)]
    assert factors == [1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_learning_rate_is_never_cut_below_its_minimum() -> None:
    rule = ts.PlateauSettings(factor=0.1, patience_epochs=1, minimum_learning_rate=0.0005)
    settings = ts.TrainingSettings(reduce_learning_rate_on_plateau=rule)
    factors = [state.factor for state in advanced(settings, [1.0] * 4)]
    assert factors == [1, 0.5, 0.5, 0.5]  # 0.0005 of the default 0.001


def test_minimum_above_the_peak_never_raises_the_learning_rate() -> None:
    rule = ts.PlateauSettings(factor=0.5, patience_epochs=1, minimum_learning_rate=1.0)
    settings = ts.TrainingSettings(reduce_learning_rate_on_plateau=rule)
    assert advanced(settings, [1.0] * 3)[-1].factor == 1


def test_improvement_smaller_than_min_delta_does_not_count() -> None:
    rule = ts.EarlyStoppingSettings(patience_epochs=2, min_delta=0.1)
    states = advanced(ts.TrainingSettings(early_stopping=rule), [1.0, 0.95, 0.91])
    assert [state.should_stop for state in states] == [False, False, True]
    assert states[-1].best_step == 10


def test_best_epoch_is_remembered() -> None:
    rule = ts.EarlyStoppingSettings(monitor="val_accuracy", patience_epochs=3)
    states = advanced(ts.TrainingSettings(early_stopping=rule), [0.5, 0.2, 0.3, 0.4, 0.3])
    assert states[-1].best_step == 20
    assert states[-1].should_stop


def test_run_state_survives_json() -> None:
    rule = ts.EarlyStoppingSettings()
    state = run_state.RunState(
        step=17,
        generation=2,
        decided=advanced(ts.TrainingSettings(early_stopping=rule), [0.3])[-1],
        epoch=run_state.EpochFigures(loss_sum=1 / 3, correct=4, images=5, seconds=0.1),
        history=({"epoch": 1, "loss": 0.1},),
        confusion=((1, 2), (3, 4)),
        seconds=2.5,
        group_sizes=((0, 2), (12, 1)),
        timeline={"end": 3.0, "columns": [{"training": 3.0}]},
    )
    assert run_state.from_json(json.loads(json.dumps(state.as_json()))) == state


def test_run_state_knows_when_the_group_had_another_size() -> None:
    state = run_state.RunState().with_workers(4)
    assert state.group_sizes == ((0, 4),)
    same = dataclasses.replace(state, step=10).with_workers(4)
    assert same.group_sizes == ((0, 4),)
    smaller = same.with_workers(3).with_workers(2)  # the group of three made no step
    assert smaller.group_sizes == ((0, 4), (10, 2))
    assert smaller.with_workers(4).group_sizes == ((0, 4),)
