"""Learning rate as a function of the step, inside the graph and out of it."""

import math

import keras
import tensorflow as tf

from imagetrain_api import training_settings


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]  # Keras has no types
    """Linear warm-up from 0, then constant or cosine (Loshchilov and Hutter 2017, without restarts), times `factor`.

    `factor` is what ReduceLROnPlateau has cut so far; it is state of the run and every worker sets it alike.
    """

    def __init__(
        self,
        optimizer: training_settings.OptimizerSettings,
        schedule: training_settings.ScheduleSettings,
        *,
        steps_per_epoch: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self._peak = optimizer.learning_rate
        self._schedule = schedule
        self._warmup_steps = schedule.warmup_epochs * steps_per_epoch
        self._total_steps = total_steps
        self.factor = tf.Variable(1.0, trainable=False, dtype=tf.float32, name="learning_rate_factor")

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a 0-based step, a float32 scalar."""
        step = tf.cast(step, tf.float32)
        rate = tf.constant(self._peak, tf.float32)
        if self._schedule.name == "cosine":
            span = max(1.0, self._total_steps - self._warmup_steps)
            progress = tf.clip_by_value((step - self._warmup_steps) / span, 0.0, 1.0)
            floor = self._schedule.final_fraction
            rate *= floor + (1.0 - floor) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        if self._warmup_steps > 0:
            rate *= tf.minimum(1.0, (step + 1.0) / self._warmup_steps)
        return rate * self.factor

    def get_config(self) -> dict[str, object]:
        """Keras asks each schedule for it; this one is rebuilt from the job instead."""
        return {"peak": self._peak, "schedule": self._schedule.name}
