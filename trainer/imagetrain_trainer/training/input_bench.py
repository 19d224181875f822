"""What the stages of the input with TensorFlow cost, on the user's own images: batch, decode, augment, copy, and all.

The parts are measured as training runs them: each measure has one stage more than the one before, and the difference is
the stage's. "decode" is what images without random changes cost beyond their batches, and "augment" what the job's
changes add to that.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from imagetrain_api import data_settings, job, training_settings
from imagetrain_trainer.data import bench, dataset, reader
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import inputs, reading

_USUAL_SIDE = 224  # pixels; what most architectures were published with
_ENDLESS = 1 << 40


def build_spec(facts: dataset.ImageFacts, batch_size: int, size: tuple[int, int] | None = None) -> job.JobSpec:
    """Return a job without augmentation.

    Args:
        facts: of the data set's images.
        batch_size: `training.globalBatchSize`.
        size: height and width of the model's input; None: the images' own where they are alike, else 224 x 224.
    """
    if size is None:
        size = (facts.height or _USUAL_SIDE, facts.width or _USUAL_SIDE)
    return job.JobSpec(
        data=data_settings.DataSettings(uri="file:///benchmark/data"),
        model=training_settings.ModelSettings(architecture="small_cnn", input_shape=(*size, facts.channels)),
        training=training_settings.TrainingSettings(global_batch_size=batch_size),
        output=job.OutputSettings(uri="file:///benchmark/output"),
    )


def measure_pixels(sample: store.ObjectStore, spec: job.JobSpec, seconds: float) -> list[bench.Stage]:
    """Measure batch, decode, augment and, where there is an accelerator, copy.

    Args:
        sample: a small data set, of `bench.take_sample`.
        spec: the job.
        seconds: for each.

    Raises:
        errors.ConfigError: the job does not fit the images.
        errors.DataCorruptError: an image does not decode.
    """
    plain = dataclasses.replace(
        spec, training=dataclasses.replace(spec.training, augmentation=training_settings.AugmentationSettings())
    )
    with reader.DatasetReader(sample, "train", reader.ReaderOptions(in_memory_bytes=_ENDLESS)) as records:
        batch = bench.measure_stream("batch", _feed(records, plain), seconds)
        decoded = measure_training_input(records, plain, seconds, "decode")
        stages = [batch, decoded.less(batch, "decode")]
        if spec.training.augmentation != plain.training.augmentation:
            stages.append(measure_training_input(records, spec, seconds, "augment").less(decoded, "augment"))
        devices = tf.config.list_logical_devices("GPU")
        if devices:
            stages.append(_measure_copy(records, plain, seconds, devices[0].name))
    return stages


def measure_whole(
    objects: store.ObjectStore, split: str, spec: job.JobSpec, options: reader.ReaderOptions, seconds: float
) -> bench.Stage:
    """Measure all stages at once, from the data set's store to batches of images, as one worker of one replica has it.

    Raises:
        errors.TrainerError: the data set cannot be read, or does not fit.
    """
    with reader.DatasetReader(objects, split, options) as records:
        return measure_training_input(records, spec, seconds, "all")


def measure_training_input(records: reader.DatasetReader, spec: job.JobSpec, seconds: float, name: str) -> bench.Stage:
    """Measure the input of training as a whole."""
    with inputs.TrainingInput(
        records, spec, first_step=0, total_steps=_ENDLESS, replicas=range(1), world_size=1
    ) as source:

        def batches() -> Iterator[tuple[int, int]]:
            for batch in source.dataset:
                count = int(batch["images"].shape[0])
                yield count, int(count * records.mean_record_bytes)

        try:
            return bench.measure_stream(name, batches(), seconds)
        except tf.errors.OpError as e:
            raise source.explain(e) from e


def _feed(records: reader.DatasetReader, spec: job.JobSpec) -> Iterator[tuple[int, int]]:
    """Put batches together and hand them to TensorFlow, as `pipeline` does, and nothing else."""
    plan = reading.build_sampler(records, spec)

    def generate() -> Iterator[dict[str, Any]]:
        for step in range(_ENDLESS):
            batch = records.read(plan.batch_records(step))
            yield {"payloads": batch.payloads, "labels": batch.labels, "record_ids": batch.record_ids}

    signature = {
        "payloads": tf.TensorSpec((None,), tf.string),
        "labels": tf.TensorSpec((None,), tf.int32),
        "record_ids": tf.TensorSpec((None,), tf.int64),
    }
    for batch in tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2):
        count = int(batch["labels"].shape[0])
        yield count, int(count * records.mean_record_bytes)


def _measure_copy(records: reader.DatasetReader, spec: job.JobSpec, seconds: float, device: str) -> bench.Stage:
    """Copy one decoded batch to an accelerator again and again, each time to the end."""
    with inputs.TrainingInput(
        records, spec, first_step=0, total_steps=_ENDLESS, replicas=range(1), world_size=1
    ) as source:
        images = next(iter(source.dataset))["images"]

    def batches() -> Iterator[tuple[int, int]]:
        while True:
            with tf.device(device):
                tf.reshape(tf.identity(images), (-1,))[-1].numpy()
            yield int(images.shape[0]), int(tf.size(images))

    return bench.measure_stream("copy", batches(), seconds)
