"""Every variable of a run by name, read from and written to the replicas of a strategy."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.training import state_layout


def named_variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """Return the variables of model (weights, statistics, random seeds) and optimizer by unique and stable names.

    `tf.train.Checkpoint(model)` would leave out the seeds of Dropout, and a resumed run would differ.
    """
    variables = {}
    for group, members in (("model", model.variables), ("optimizer", optimizer.variables)):
        for index, variable in enumerate(members):
            variables[f"{group}/{index:04d}/{variable.path}"] = variable
    return variables


class HostArrays(Mapping[str, npt.NDArray[Any]]):
    """The values of variables, each read when it is asked for; on the CPU without a copy, so copy before the next step.

    A save copies them one by one: a second copy of the whole state never exists on the host.
    """

    def __init__(self, variables: dict[str, keras.Variable]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(_local_copy(self._variables[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def describe_variables(variables: dict[str, keras.Variable]) -> dict[str, state_layout.ArraySpec]:
    """Return types and shapes of variables, without reading them."""
    return {
        name: state_layout.ArraySpec(np.dtype(tf.as_dtype(variable.dtype).as_numpy_dtype), tuple(variable.shape))
        for name, variable in variables.items()
    }


def _local_copy(variable: keras.Variable) -> npt.NDArray[Any]:
    value = variable.value
    if isinstance(value, tf.distribute.DistributedValues):
        value = value.values[0]
    # `read_value` does the same and three times as much around it, for each of hundreds of variables in a save.
    return np.asarray(tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype))


def write_variables(variables: dict[str, keras.Variable], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Set every variable on every replica.

    Raises:
        DataCorruptError: names, shapes or types do not fit: the checkpoint belongs to another model.
    """
    if set(variables) != set(arrays):
        strange = sorted(set(variables) ^ set(arrays))
        raise errors.DataCorruptError(
            f"The checkpoint belongs to another model or optimizer: {len(strange)} variables differ, first "
            f"{strange[0]}. Start a new run, or restore the manifest of the old one."
        )
    for name, variable in variables.items():
        array = arrays[name]
        if tuple(variable.shape) != array.shape:
            raise errors.DataCorruptError(
                f"The checkpoint belongs to another model: {name} has shape {array.shape}, not {tuple(variable.shape)}."
            )
        variable.assign(array)


def average_statistics(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Set BatchNormalization statistics that each worker keeps for itself to their mean over the group (a collective).

    Moving averages are linear, so averaging at any moment leaves the later mean as it is.
    """
    statistics = [
        variable.value
        for layer in model._flatten_layers()  # noqa: SLF001 - Keras has no public walk through nested layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]
    if not statistics or strategy.num_replicas_in_sync == 1:
        return

    def average() -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        values = [tf.identity(variable.read_value()) for variable in statistics]
        return list(context.all_reduce(tf.distribute.ReduceOp.MEAN, values))

    averages = tf.function(lambda: strategy.run(average), autograph=False)()
    for variable, value in zip(statistics, averages, strict=True):
        variable.assign(strategy.experimental_local_results(value)[0])
