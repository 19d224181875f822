"""From stored records to batches of pixels: decoding in C++ under tf.data. Alone in `data` it imports TensorFlow."""

import collections
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset as dataset_module
from imagetrain_trainer.data import reader

_REMEMBERED_BATCHES = 16  # more than can be under way between the reader and the consumer; searched for a bad image
_SIDE_INPUTS = {
    "labels": tf.TensorSpec((None,), tf.int32),
    "record_ids": tf.TensorSpec((None,), tf.int64),
}


class DecodePipeline:
    """Decodes batches of records to uint8 images of one shape.

    Attributes:
        dataset: elements {"images": (batch, h, w, c) uint8, "labels": (batch,) int32, "record_ids": (batch,) int64}.
    """

    def __init__(
        self,
        batches: Iterable[reader.RecordBatch],
        image: dataset_module.ImageFacts,
        input_shape: tuple[int, ...],
        *,
        decode_threads: int | None = None,
        prefetch_batches: int = 2,
    ) -> None:
        """Plan the decoding; nothing is read before the first element is asked for.

        Args:
            batches: records, in order; consumed once.
            image: facts of the data set.
            input_shape: height, width, channels of the images to make.
            decode_threads: batches decoded at the same time; None: as many as tf.data finds useful.
            prefetch_batches: decoded batches that wait for their consumer.

        Raises:
            ConfigError: the data has 3 channels and the input shape has 1.
        """
        if image.channels > input_shape[2]:
            raise errors.ConfigError(
                f"spec.model.inputShape must end in {image.channels} channels like the data set, got {input_shape[2]}."
            )
        self._batches = batches
        self._image = image
        self._height, self._width, self._channels = input_shape
        self._recent: collections.deque[reader.RecordBatch] = collections.deque(maxlen=_REMEMBERED_BATCHES)
        self._failure: Exception | None = None
        is_raw = image.encoding == "raw"
        payload = tf.TensorSpec((), tf.string) if is_raw else tf.TensorSpec((None,), tf.string)
        stored = tf.data.Dataset.from_generator(self._stored, output_signature={"payload": payload, **_SIDE_INPUTS})
        decode = self._decode_raw if is_raw else self._decode_files
        parallel = decode_threads or tf.data.AUTOTUNE
        self.dataset = stored.map(decode, num_parallel_calls=parallel, deterministic=True).prefetch(prefetch_batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the elements eagerly.

        Raises:
            DataCorruptError: an image cannot be decoded; names the record.
            TrainerError: what the reader raised.
        """
        try:
            yield from self.dataset
        except tf.errors.OpError as error:
            raise self.explain(error) from error

    def explain(self, error: tf.errors.OpError) -> Exception:
        """Return the trainer's own error behind one that iterating `dataset` raised; any other error as it is."""
        if self._failure is not None:
            return self._failure
        return self._find_undecodable() or error

    def _stored(self) -> Iterator[dict[str, Any]]:
        try:
            for batch in self._batches:
                self._recent.append(batch)
                payload: Any = (
                    b"".join(batch.payloads)
                    if self._image.encoding == "raw"
                    else np.array(batch.payloads, dtype=object)
                )
                yield {"payload": payload, "labels": batch.labels, "record_ids": batch.record_ids}
        except errors.TrainerError as error:
            self._failure = error  # tf.data would turn it into text
            raise

    def _decode_raw(self, element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = self._image
        flat = tf.io.decode_raw(element["payload"], tf.uint8)
        images = tf.reshape(flat, (-1, image.height, image.width, image.channels))  # (batch, h, w, c) uint8
        return self._finish(element, resize_images(images, self._height, self._width))

    def _decode_files(self, element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        channels = self._image.channels

        def decode(payload: tf.Tensor) -> tf.Tensor:
            return decode_image(payload, channels, self._height, self._width)

        signature = tf.TensorSpec((self._height, self._width, channels), tf.uint8)
        images = tf.map_fn(decode, element["payload"], fn_output_signature=signature)  # (batch, h, w, c) uint8
        return self._finish(element, images)

    def _finish(self, element: dict[str, tf.Tensor], images: tf.Tensor) -> dict[str, tf.Tensor]:
        if self._image.channels < self._channels:
            images = tf.repeat(images, self._channels, axis=-1)
        images = tf.ensure_shape(images, (None, self._height, self._width, self._channels))
        return {"images": images, "labels": element["labels"], "record_ids": element["record_ids"]}

    def _find_undecodable(self) -> errors.DataCorruptError | None:
        for batch in self._recent if self._image.encoding != "raw" else ():
            for payload, key, record_id in zip(batch.payloads, batch.keys, batch.record_ids, strict=True):
                try:
                    decode_image(tf.constant(payload), self._image.channels, self._height, self._width)
                except tf.errors.OpError as error:
                    reason = error.message.splitlines()[0][:200]
                    return errors.DataCorruptError(
                        f"Record {record_id} ({key}) cannot be decoded: {reason} Pack the data set again."
                    )
        return None


def decode_image(payload: tf.Tensor, channels: int, height: int, width: int) -> tf.Tensor:
    """Decode one PNG or JPEG file (scalar string) to (height, width, channels) uint8."""
    decoded = tf.io.decode_image(payload, channels=channels, expand_animations=False)
    return resize_images(decoded[tf.newaxis], height, width)[0]


def resize_images(images: tf.Tensor | npt.NDArray[np.uint8], height: int, width: int) -> tf.Tensor:
    """Resize (batch, h, w, channels) uint8 bilinearly with antialiasing; an image of that size stays as it is."""
    images = tf.convert_to_tensor(images)
    if images.shape[1:3] == (height, width):
        return images

    def resize() -> tf.Tensor:
        resized = tf.image.resize(images, (height, width), antialias=True)  # float32
        return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)

    has_size = tf.reduce_all(tf.shape(images)[1:3] == [height, width])
    return tf.ensure_shape(tf.cond(has_size, lambda: images, resize), (images.shape[0], height, width, images.shape[3]))
