"""What validation decides: cutting the learning rate, stopping early, which epoch is best. Pure; part of saved state.

Every worker sees the same validation figures, so every worker decides alike without asking.
"""

import dataclasses
from typing import Any

from imagetrain_api import training_settings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """State of the policies between two validations; JSON-able.

    Attributes:
        factor: what the learning rate is multiplied with.
        plateau_best: best monitored figure as the plateau rule counts it (None: none yet).
        plateau_wait: validations since then.
        cooldown: validations that are not counted any more after a cut.
        stopping_best: best monitored figure as the early-stopping rule counts it.
        stopping_wait: validations since then.
        best_step: step of the best validation, by the early-stopping rule.
        should_stop: whether the run has ended early.
    """

    factor: float = 1.0
    plateau_best: float | None = None
    plateau_wait: int = 0
    cooldown: int = 0
    stopping_best: float | None = None
    stopping_wait: int = 0
    best_step: int | None = None
    should_stop: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return dataclasses.asdict(self)


def advance(
    state: PolicyState,
    settings: training_settings.TrainingSettings,
    *,
    step: int,
    validation_loss: float,
    validation_accuracy: float,
) -> PolicyState:
    """Return the state after one validation.

    Args:
        state: before it.
        settings: the job's policies.
        step: global step of the validation.
        validation_loss: its mean loss.
        validation_accuracy: its top-1.
    """
    figures = {"val_loss": validation_loss, "val_accuracy": validation_accuracy}
    if settings.reduce_learning_rate_on_plateau is not None:
        rule = settings.reduce_learning_rate_on_plateau
        state = _advance_plateau(state, rule, settings.optimizer.learning_rate, figures[rule.monitor])
    if settings.early_stopping is not None:
        stopping = settings.early_stopping
        state = _advance_stopping(state, stopping, step, figures[stopping.monitor])
    return state


def _has_improved(monitor: str, value: float, best: float | None, min_delta: float) -> bool:
    if best is None:
        return True
    return value < best - min_delta if monitor == "val_loss" else value > best + min_delta


def _advance_plateau(
    state: PolicyState, rule: training_settings.PlateauSettings, learning_rate: float, value: float
) -> PolicyState:
    cooldown = max(0, state.cooldown - 1)
    if _has_improved(rule.monitor, value, state.plateau_best, rule.min_delta):
        return dataclasses.replace(state, plateau_best=value, plateau_wait=0, cooldown=cooldown)
    if state.cooldown > 0:
        return dataclasses.replace(state, plateau_wait=0, cooldown=cooldown)
    wait = state.plateau_wait + 1
    if wait < rule.patience_epochs:
        return dataclasses.replace(state, plateau_wait=wait)
    lowest = rule.minimum_learning_rate / learning_rate
    factor = max(state.factor * rule.factor, min(lowest, state.factor))
    return dataclasses.replace(state, factor=factor, plateau_wait=0, cooldown=rule.cooldown_epochs)


def _advance_stopping(
    state: PolicyState, rule: training_settings.EarlyStoppingSettings, step: int, value: float
) -> PolicyState:
    if _has_improved(rule.monitor, value, state.stopping_best, rule.min_delta):
        return dataclasses.replace(state, stopping_best=value, stopping_wait=0, best_step=step)
    wait = state.stopping_wait + 1
    return dataclasses.replace(state, stopping_wait=wait, should_stop=wait >= rule.patience_epochs)
