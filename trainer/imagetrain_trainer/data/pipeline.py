"""From record batches to batches of decoded images, in TensorFlow's C++: the only module of the data plane with it.

`decode_image` and `resize_images` define what a pixel is: serving and prediction must use them too, or a model meets
other pixels than it was trained on.
"""

import collections
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, reader

Batch = dict[str, Any]
"""images (b, h, w, c) uint8; labels (b,) int32; record_ids (b,) int64: tensors."""

# Decoding one batch overlaps reading the next; more only costs memory, as each batch already decodes in parallel.
_PARALLEL_BATCHES = 2
_PARALLEL_IMAGES = 8


def decode_image(payload: Any, channels: int, height: int, width: int) -> Any:  # noqa: ANN401 - tensors
    """Decode JPEG or PNG bytes, a scalar string tensor, to (height, width, channels) uint8; gray is repeated for 3."""
    image = _decode_bytes(payload, channels)
    # image: (stored height, stored width, channels) uint8
    is_sized = tf.reduce_all(tf.equal(tf.shape(image)[:2], (height, width)))
    sized = tf.cond(is_sized, lambda: image, lambda: resize_images(image, height, width))
    return tf.ensure_shape(sized, (height, width, channels))


def _decode_bytes(payload: Any, channels: int) -> Any:  # noqa: ANN401 - tensors
    # The accurate inverse transform is the one that Pillow and libjpeg's tools use. The operator takes PNG as well.
    return tf.io.decode_jpeg(payload, channels=channels, dct_method="INTEGER_ACCURATE")


def resize_images(images: Any, height: int, width: int) -> Any:  # noqa: ANN401 - tensors
    """Resize (..., h, w, c) uint8 to (..., height, width, c) uint8: bilinear, antialiased, rounded."""
    if images.shape[-3:-1] == (height, width):
        return images
    resized = tf.image.resize(images, (height, width), antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


class DecodePipeline:
    """Decodes batches ahead of their use; iterate over it, or over its `dataset` with `explain` for the errors.

    Each batch keeps its size, which may vary and be 0. Images come out in the input shape: resized when theirs differs,
    gray repeated when three channels are wanted.
    """

    def __init__(
        self,
        batches: Iterable[reader.RecordBatch],
        image: dataset.ImageFacts,
        input_shape: Sequence[int],
        *,
        prefetch_batches: int = 2,
    ) -> None:
        """Build the pipeline; nothing is read before it is iterated over.

        Args:
            batches: read once per iteration; a `Prefetcher` serves one iteration.
            image: what the data set says of its images.
            input_shape: (height, width, channels) of the model.
            prefetch_batches: decoded batches kept ready.

        Raises:
            errors.ConfigError: the input shape cannot be made of these images.
        """
        _check_input_shape(input_shape, image)
        self._batches = batches
        self._image = image
        self._height, self._width, self._channels = input_shape
        self._failure: errors.TrainerError | None = None
        # Batches that may be in the pipeline, to find the record that failed.
        self._recent: collections.deque[reader.RecordBatch] = collections.deque(
            maxlen=prefetch_batches + 2 * _PARALLEL_BATCHES + 1
        )
        self._dataset = self._build(prefetch_batches)

    @property
    def dataset(self) -> Any:  # noqa: ANN401 - tf.data.Dataset
        """The tf.data.Dataset of `Batch` elements."""
        return self._dataset

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self._dataset)
        while True:
            try:
                batch: Batch | None = next(iterator, None)
            except tf.errors.OpError as e:
                raise self.explain(e) from e
            if batch is None:
                return
            yield batch

    def explain(self, error: Exception) -> Exception:
        """Return the trainer error behind what TensorFlow raised from this pipeline, or `error` itself when none is.

        TensorFlow turns every exception of a generator into text; the original is kept here. An image that does not
        decode is found by decoding the batches in flight one by one.
        """
        if self._failure is not None:
            return self._failure
        if self._image.encoding != "raw":
            for batch in self._recent:
                for payload, key, record_id in zip(batch.payloads, batch.keys, batch.record_ids.tolist(), strict=True):
                    if not _is_decodable(payload, self._channels):
                        return errors.DataCorruptError(
                            f"record {key!r} (record id {record_id}) must be an image that decodes, and it is not. "
                            "Remove it from the source and pack the data set again."
                        )
        return error

    def _build(self, prefetch_batches: int) -> Any:  # noqa: ANN401 - tf.data.Dataset
        payload_shape = () if self._image.encoding == "raw" else (None,)
        signature = {
            "payloads": tf.TensorSpec(payload_shape, tf.string),
            "labels": tf.TensorSpec((None,), tf.int32),
            "record_ids": tf.TensorSpec((None,), tf.int64),
        }
        decode = self._decode_raw if self._image.encoding == "raw" else self._decode_files
        options = tf.data.Options()
        # The sampler shards already.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return (
            tf.data.Dataset.from_generator(self._feed, output_signature=signature)
            .map(decode, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True)
            .prefetch(prefetch_batches)
            .with_options(options)
        )

    def _feed(self) -> Iterator[dict[str, Any]]:
        try:
            for batch in self._batches:
                self._recent.append(batch)
                payloads = self._join_raw(batch) if self._image.encoding == "raw" else batch.payloads
                yield {"payloads": payloads, "labels": batch.labels, "record_ids": batch.record_ids}
        except errors.TrainerError as e:
            self._failure = e
            raise

    def _join_raw(self, batch: reader.RecordBatch) -> bytes:
        size_bytes = (self._image.height or 0) * (self._image.width or 0) * self._image.channels
        for payload, kind, key in zip(batch.payloads, batch.formats, batch.keys, strict=True):
            if len(payload) != size_bytes or kind != "raw":
                raise errors.DataCorruptError(
                    f"record {key!r} must be {size_bytes} raw bytes, got {len(payload)} of {kind!r}. "
                    "Pack the data set again."
                )
        return b"".join(batch.payloads)

    def _decode_raw(self, element: Batch) -> Batch:
        shape = (-1, self._image.height, self._image.width, self._image.channels)
        images = tf.reshape(tf.io.decode_raw(element["payloads"], tf.uint8), shape)
        # images: (batch, stored height, stored width, stored channels) uint8
        if self._channels != self._image.channels:
            images = tf.repeat(images, self._channels, axis=-1)
        if (self._height, self._width) != (self._image.height, self._image.width):
            images = resize_images(images, self._height, self._width)
        # images: (batch, height, width, channels) uint8
        return {"images": images, "labels": element["labels"], "record_ids": element["record_ids"]}

    def _decode_files(self, element: Batch) -> Batch:
        shape = (self._height, self._width, self._channels)
        images = tf.map_fn(
            lambda payload: decode_image(payload, self._channels, self._height, self._width),
            element["payloads"],
            fn_output_signature=tf.TensorSpec(shape, tf.uint8),
            parallel_iterations=_PARALLEL_IMAGES,
        )
        # images: (batch, height, width, channels) uint8
        return {"images": images, "labels": element["labels"], "record_ids": element["record_ids"]}


def _check_input_shape(input_shape: Sequence[int], image: dataset.ImageFacts) -> None:
    is_valid = len(input_shape) == 3 and min(input_shape) >= 1 and input_shape[2] in (1, 3)
    if not is_valid:
        raise errors.ConfigError(f"spec.model.inputShape must be [height, width, 1 or 3], got {list(input_shape)!r}.")
    if input_shape[2] < image.channels:
        raise errors.ConfigError(
            f"spec.model.inputShape must have {image.channels} channels, as the data set's images have, got "
            f"{list(input_shape)!r}. Change it, or pack the images with --channels 1."
        )


def _is_decodable(payload: bytes, channels: int) -> bool:
    try:
        _decode_bytes(payload, channels)
    except tf.errors.OpError:
        return False
    return True
