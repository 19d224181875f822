"""A few numbers from every worker to every worker, by one small all-reduce."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def exchange(strategy: tf.distribute.Strategy, rank: int, workers: int, values: Sequence[int]) -> list[list[int]]:
    """Return everybody's values in the order of the ranks; a collective, so every worker calls it alike.

    Args:
        strategy: the joined group.
        rank: this worker's.
        workers: size of the group.
        values: integers below 2**53, as many on each worker; they pass as float64, which every device can add.
    """
    if workers == 1:
        return [list(values)]
    told = np.zeros((workers, len(values)))
    told[rank] = values
    local_replicas = strategy.num_replicas_in_sync // workers  # each adds the same row

    def add() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.constant(told / local_replicas, tf.float64))

    total = tf.function(lambda: strategy.run(add), autograph=False)()
    summed = strategy.experimental_local_results(total)[0].numpy()
    return [[round(value) for value in row] for row in summed]
