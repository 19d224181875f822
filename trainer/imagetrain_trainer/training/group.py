"""The worker group as TensorFlow sees it: TF_CONFIG, devices, threads, and the distribution strategy."""

import json
import os

import tensorflow as tf

from imagetrain_api import pod_settings
from imagetrain_trainer import errors
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.worker import environment

# Passes of the graph optimizer that find nothing to gain in a training step on processors, measured at mobilenet_v2 and
# small_cnn: they take a quarter of the time from the start of a training process to its first step.
_FRUITLESS_PASSES = (
    "constant_folding",
    "function_optimization",
    "implementation_selector",
    "layout_optimizer",
    "loop_optimization",
    "remapping",
    "scoped_allocator_optimization",
    "shape_optimization",
)


def configure_tensorflow(worker: environment.WorkerEnvironment) -> None:
    """Set what TensorFlow reads once, before any device or group is made.

    Raises:
        ConfigError: fewer GPUs than the job requests, and `spec.worker.allowCpu` is false.
    """
    os.environ["TF_CONFIG"] = build_tf_config(worker.members, worker.rank)
    if worker.cpu_threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(worker.cpu_threads)
        tf.config.threading.set_inter_op_parallelism_threads(max(2, worker.cpu_threads))
    spec = worker.config.job.spec
    _check_gpus(spec.worker)
    if not tf.config.list_physical_devices("GPU"):
        tf.config.optimizer.set_experimental_options(dict.fromkeys(_FRUITLESS_PASSES, False))
    if spec.training.deterministic:
        tf.config.experimental.enable_op_determinism()


def build_tf_config(members: tuple[messages.Member, ...], rank: int) -> str:
    """Return the value of TF_CONFIG (TensorFlow guide, "Multi-worker training": cluster and task)."""
    addresses = [f"{member.host}:{member.collective_port}" for member in members]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}})


def _check_gpus(settings: pod_settings.WorkerSettings) -> None:
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if len(gpus) < settings.gpus and not settings.allow_cpu:
        raise errors.ConfigError(
            f"spec.worker.resources.limits.{pod_settings.GPU_RESOURCE} asks for {settings.gpus} GPU(s), but TensorFlow "
            f"sees {len(gpus)}. Use an image with CUDA on a GPU node, or set spec.worker.allowCpu: true."
        )


def build_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Join the group: returns when every worker has come.

    No collective timeout is set. TensorFlow 2.21 keeps one sleeping thread a collective for as long as its timeout
    (thousands within a minute, until the process may start no more), and the supervisor's watchdog ends a silent worker
    anyway.
    """
    return tf.distribute.MultiWorkerMirroredStrategy()
