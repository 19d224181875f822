import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from imagetrain_api import training_settings as ts
from imagetrain_trainer.training import optimizers, schedule


def made(**settings: object) -> schedule.LearningRate:
    return schedule.LearningRate(
        ts.OptimizerSettings(learning_rate=0.1), ts.ScheduleSettings(**settings), steps_per_epoch=10, total_steps=100
    )


def rates(learning_rate: schedule.LearningRate) -> list[float]:
    return [float(learning_rate(tf.constant(step))) for step in range(100)]


def test_constant_is_constant() -> None:
    assert set(rates(made())) == {np.float32(0.1)}


def test_warm_up_rises_linearly_to_the_peak() -> None:
    np.testing.assert_allclose(rates(made(warmup_epochs=1))[:12], [0.01 * min(10, n) for n in range(1, 13)], rtol=1e-6)


def test_cosine_falls_from_the_peak_to_its_floor() -> None:
    curve = rates(made(name="cosine", final_fraction=0.1))
    assert curve[0] == pytest.approx(0.1)
    assert curve[50] == pytest.approx(0.1 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert all(later <= earlier for earlier, later in itertools.pairwise(curve))
    assert float(made(name="cosine", final_fraction=0.1)(tf.constant(1000))) == pytest.approx(0.01)


def test_plateau_factor_scales_the_rate() -> None:
    learning_rate = made()
    learning_rate.factor.assign(0.25)
    assert rates(learning_rate)[3] == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("settings", "kind", "fields"),
    [
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
        (
            {"name": "adam", "beta1": 0.8, "weight_decay": 0.1},
            keras.optimizers.Adam,
            {"beta_1": 0.8, "weight_decay": 0.1},
        ),
    ],
)
def test_optimizer_is_what_the_job_asks_for(
    settings: dict[str, object], kind: type[keras.optimizers.Optimizer], fields: dict[str, object]
) -> None:
    optimizer = optimizers.build_optimizer(ts.OptimizerSettings(**settings), made())
    assert isinstance(optimizer, kind)
    assert {name: getattr(optimizer, name) for name in fields} == fields


def test_gradients_travel_in_buckets_of_one_type_and_bounded_size() -> None:
    shapes = [(tf.float32, 10), (tf.float32, 10), (tf.float32, 30), (tf.bfloat16, 4), (tf.float32, 1), (tf.float32, 2)]
    gradients = [tf.zeros([size], dtype) for dtype, size in shapes]
    assert optimizers.plan_buckets(gradients, 80) == [[0, 1], [2], [3], [4, 5]]
    assert optimizers.plan_buckets([], 80) == []
