"""What the variables of a new run begin with: the chief's values on every worker.

TensorFlow broadcasts each variable by itself when it is made: 580 round trips in mobilenet_v2 with Adam, in every start
of a training process, and a restored checkpoint replaces them all. Here nothing is sent when variables are made. At the
start of a run the workers compare their values, which are drawn from the same seed; only where they differ, as an
architecture that draws without the seed makes them, the chief's are sent.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator, Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_trainer.training import joint_values, state

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 6  # so many fit into what `joint_values` exchanges


@contextlib.contextmanager
def not_sent(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> Iterator[None]:
    """Make variables without a broadcast, as MirroredStrategy does; `share` comes before they are used."""
    extended = strategy.extended
    # No public setting leaves the broadcasts out.
    within_worker = super(type(extended), extended)._get_variable_creator_initial_value
    extended._get_variable_creator_initial_value = within_worker  # noqa: SLF001
    try:
        yield
    finally:
        del extended._get_variable_creator_initial_value  # noqa: SLF001


def share(strategy: tf.distribute.Strategy, rank: int, workers: int, variables: Mapping[str, keras.Variable]) -> None:
    """Set every variable to the chief's value (a collective)."""
    arrays = state.HostArrays(dict(variables))
    digests = joint_values.exchange(strategy, rank, workers, [_digest(arrays)])
    if all(digest == digests[0] for digest in digests):
        return
    logger.info("the workers' initial values differ; the chief's are sent")
    for name, variable in variables.items():
        variable.assign(_from_chief(strategy, arrays[name]))


def _digest(arrays: Mapping[str, npt.NDArray[np.generic]]) -> int:
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name in sorted(arrays):
        found.update(name.encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return int.from_bytes(found.digest(), "big")


def _from_chief(strategy: tf.distribute.Strategy, array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return the chief's array, sent as float64: all devices can add it, and it holds any float32 and uint32."""

    def add() -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        own = tf.constant(array.astype(np.float64))
        told = tf.where(tf.equal(replica.replica_id_in_sync_group, 0), own, tf.zeros_like(own))
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, told)

    total = tf.function(lambda: strategy.run(add), autograph=False)()
    return np.asarray(strategy.experimental_local_results(total)[0]).astype(array.dtype)
