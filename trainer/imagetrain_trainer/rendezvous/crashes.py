"""Tells a crash that the data of one step brings about from a passing one, and what is done about that step. Pure.

A process may run several steps together, and then nobody knows which of them crashed. So after a crash these steps are
run one by one (`Crashes.careful_steps`), and the second crash names its step.
"""

import enum

from imagetrain_api import progress
from imagetrain_trainer.rendezvous import failures, settings

_CRASHES = 2
_KILLS = 3  # in a row at one step: strangers' kills meet at the same step more easily


class Judgement(enum.Enum):
    """What follows from a failure."""

    GO_ON = "go_on"
    LEAVE_OUT = "leave_out"
    GIVE_UP = "give_up"


class Crashes:
    """The crashes of one group.

    Attributes:
        skip_steps: steps that are left out, in order.
    """

    def __init__(self, limits: settings.Settings) -> None:
        self._limits = limits
        self._last: failures.Failure | None = None
        self._times = 0
        self._is_fruitless = False  # no step was finished since the newest step was left out
        self.skip_steps: tuple[int, ...] = ()

    @property
    def careful_steps(self) -> tuple[int, ...]:
        """First and last of the steps to run one by one; nothing where the last failure was no crash in training."""
        last = self._last
        return () if last is None or not last.is_in_step else (last.step, last.last_step)

    def recall(self, skip_steps: tuple[int, ...]) -> None:
        """Take over what a member knows of an earlier coordinator's judgements."""
        together = sorted({*self.skip_steps, *skip_steps})
        self.skip_steps = tuple(together[: progress.MAX_SKIPPED_STEPS])

    def judge(self, failure: failures.Failure, *, has_stepped: bool) -> Judgement:
        """Note a failure.

        Args:
            failure: that ended the newest generation.
            has_stepped: whether that generation had finished a step of its own.
        """
        self._is_fruitless = self._is_fruitless and not has_stepped
        is_again = failure.repeats(self._last, has_stepped=has_stepped)
        self._times = self._times + 1 if is_again else 1
        self._last = failure if failure.is_crash else None
        needed = _KILLS if failure.is_from_outside else _CRASHES
        if not failure.is_crash or self._times < needed or failure.last_step > failure.step:
            return Judgement.GO_ON
        if not self._may_leave_out(failure):
            return Judgement.GIVE_UP
        self.recall((failure.step,))
        self._last, self._times, self._is_fruitless = None, 0, True
        return Judgement.LEAVE_OUT

    def _may_leave_out(self, failure: failures.Failure) -> bool:
        """Tell whether the step may be left out.

        Where the step before it was left out in vain, and the process crashed at its first step again, not the data
        but the step itself is at fault: a graph that cannot be compiled, say.
        """
        is_new = failure.is_in_step and failure.step not in self.skip_steps and not self._is_fruitless
        return self._limits.skip_poison_batches and is_new and len(self.skip_steps) < progress.MAX_SKIPPED_STEPS

    def describe(self, failure: failures.Failure, judgement: Judgement) -> str:
        """Return what is to be told of a crash that came back."""
        often = "three times" if failure.is_from_outside else "twice"
        at = f"{failure.message} It did so {often} at step {failure.step}"
        if judgement is Judgement.LEAVE_OUT:
            return failures.one_line(f"{at}, which is left out from now on.")
        if self._limits.skip_poison_batches and len(self.skip_steps) >= progress.MAX_SKIPPED_STEPS:
            return f"{at}, and {len(self.skip_steps)} steps are left out already."
        if self._limits.skip_poison_batches and self._is_fruitless:
            return f"{at}, though the step before it was left out."
        return f"{at}; the data of this step may be the cause."
