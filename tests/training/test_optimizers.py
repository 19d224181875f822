from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from imagetrain_api import training_settings as ts
from imagetrain_trainer.training import optimizers, schedule

SHAPES = ((3, 4), (5,), (2, 2, 3))
STEPS = 5
SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {"name": "adam"},
    "adam with other betas": {"name": "adam", "beta1": 0.7, "beta2": 0.95, "epsilon": 1e-3},
    "adam with weight decay": {"name": "adam", "weight_decay": 0.05},
    "sgd": {"name": "sgd", "momentum": 0.0},
    "sgd with momentum": {"name": "sgd", "momentum": 0.9},
    "sgd with nesterov": {"name": "sgd", "momentum": 0.9, "nesterov": True},
    "sgd with all": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
}


def build_ours(settings: ts.OptimizerSettings) -> keras.optimizers.Optimizer:
    rate = schedule.LearningRate(settings, ts.ScheduleSettings(), steps_per_epoch=10, total_steps=100)
    return optimizers.build_optimizer(settings, rate)


def build_keras(settings: ts.OptimizerSettings) -> keras.optimizers.Optimizer:
    decay = settings.weight_decay or None
    if settings.name == "sgd":
        return keras.optimizers.SGD(
            settings.learning_rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay
        )
    return keras.optimizers.Adam(
        settings.learning_rate,
        beta_1=settings.beta1,
        beta_2=settings.beta2,
        epsilon=settings.epsilon,
        weight_decay=decay,
    )


def train(optimizer: keras.optimizers.Optimizer, dtype: str = "float32") -> list[np.ndarray]:
    """Return what variables and optimizer state become in a few steps of random gradients."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape), dtype=dtype) for shape in SHAPES]
    optimizer.build(variables)
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
    for _ in range(STEPS):
        step([tf.constant(random.normal(size=shape), dtype) for shape in SHAPES])
    return [np.asarray(value) for value in (*variables, *optimizer.variables) if value.path != "learning_rate"]


@pytest.mark.parametrize("name", SETTINGS)
def test_optimizer_updates_as_that_of_keras(name: str) -> None:
    settings = ts.OptimizerSettings(**SETTINGS[name])
    ours, theirs = train(build_ours(settings)), train(build_keras(settings))
    theirs = [value for value in theirs if value.shape or value.dtype != np.float32]  # Keras' own learning rate
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("name", ["adam", "sgd with momentum"])
def test_optimizer_takes_variables_of_other_types(name: str) -> None:
    settings = ts.OptimizerSettings(**SETTINGS[name])
    for one, other in zip(train(build_ours(settings), "float64"), train(build_ours(settings)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd with momentum"])
def test_gradient_of_an_embedding_is_that_of_its_rows(name: str) -> None:
    optimizer = build_ours(ts.OptimizerSettings(**SETTINGS[name]))
    table = keras.Variable(np.ones((4, 2)), dtype="float32")
    optimizer.build([table])
    optimizer.apply([tf.IndexedSlices(tf.ones((2, 2)), tf.constant([1, 1]), tf.constant([4, 2]))], [table])
    moved = np.asarray(table) < 1.0
    np.testing.assert_array_equal(moved, [[False, False], [True, True], [False, False], [False, False]])


def test_update_is_one_operation_a_variable() -> None:
    optimizer = build_ours(ts.OptimizerSettings())
    variables = [keras.Variable(np.ones(shape), dtype="float32") for shape in SHAPES]
    optimizer.build(variables)
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
    graph = step.get_concrete_function([tf.ones(shape) for shape in SHAPES]).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == len(SHAPES)
    assert not kinds.count("Sqrt")
