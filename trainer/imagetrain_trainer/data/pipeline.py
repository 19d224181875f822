"""From record batches to batches of decoded images, in TensorFlow's C++: the only module of the data plane with it.

`decode_image` and `resize_images` define what a pixel is: serving and prediction must use them too, or a model meets
other pixels than it was trained on. `decode_window` is for training alone.
"""

import collections
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import tensorflow as tf

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, example, image_rows, reader

Batch = dict[str, Any]
"""images (b, h, w, c) uint8; labels (b,) int32; record_ids (b,) int64: tensors; and what `Companions` add."""
Companions = Callable[[reader.RecordBatch], Mapping[str, npt.NDArray[Any]]]
"""Says what goes along with a batch; called once a batch, in order.

Three keys change the images, and do not come out:
    windows: (b, 4) int32 top, left, height, width of the part that is shown, in pixels of the stored image.
    flips_y: (b,) bool, turn it upside down.
    flips_x: (b,) bool, mirror it left to right.
"""
_FLIP_AXES = {"flips_y": 0, "flips_x": 1}  # of (h, w, c)

# Decoding one batch overlaps reading the next; more only costs memory, as each batch already decodes in parallel.
_PARALLEL_BATCHES = 2
_PARALLEL_IMAGES = 8
# Files of images with at least this many pixels are decoded one by one and put into batches then. It costs 20
# microseconds an image, and gets twice the images a second out of a machine that does other work as well.
_STREAMED_AREA = 128 * 128
_CALLS_PER_THREAD = 8  # with fewer, threads wait for the image whose turn it is: with 4, 2% of the time
_JPEG_REDUCTIONS = (1, 2, 4, 8)  # that libjpeg can decode at


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


def decode_window(
    payload: Any,  # noqa: ANN401 - tensors
    window: Any,  # noqa: ANN401
    channels: int,
    height: int,
    width: int,
    *,
    largest: tuple[int, int] | None = None,
    encoding: str = "mixed",
) -> Any:  # noqa: ANN401
    """Decode a part of an image to (height, width, channels) uint8, as `decode_image` does with the whole.

    Of a JPEG no more is decoded than the rows and columns of the window, and a window of at least twice the result's
    height and width is decoded at a half, a quarter or an eighth, as long as it stays at least as large as the result
    (its edges then move by less than that many pixels). Smaller ones are not antialiased. All this is for training,
    where the next epoch shows another window.

    Args:
        payload: JPEG or PNG bytes, a scalar string tensor.
        window: (4,) int32 top, left, height, width, within the stored image.
        channels: 1 or 3.
        height: of the result, in pixels.
        width: of the result, in pixels.
        largest: (height, width) that no window exceeds, where that is known.
        encoding: "jpeg" or "png" where all payloads are that, else "mixed".
    """

    def decode_jpeg() -> Any:  # noqa: ANN401 - tensors
        return _decode_jpeg_window(payload, window, channels, _reductions(largest, height, width), height, width)

    def decode_whole() -> Any:  # noqa: ANN401 - tensors
        return crop_image(_decode_bytes(payload, channels), window)

    if encoding == "mixed":
        image = tf.cond(tf.io.is_jpeg(payload), decode_jpeg, decode_whole)
    else:
        image = decode_jpeg() if encoding == "jpeg" else decode_whole()
    # image: (window's height, window's width, channels) uint8, or a half, a quarter, an eighth of both
    return resize_window(tf.ensure_shape(image, (None, None, channels)), height, width, largest)


def _reductions(largest: tuple[int, int] | None, height: int, width: int) -> list[int]:
    """Return by how much a window of at most that size may be reduced before it is resized."""
    return [
        reduction
        for reduction in _JPEG_REDUCTIONS
        if reduction == 1 or largest is None or (largest[0] >= reduction * height and largest[1] >= reduction * width)
    ]


def _decode_jpeg_window(
    payload: Any,  # noqa: ANN401 - tensors
    window: Any,  # noqa: ANN401
    channels: int,
    reductions: list[int],
    height: int,
    width: int,
) -> Any:  # noqa: ANN401
    def decode(reduction: int) -> Any:  # noqa: ANN401 - tensors
        return tf.io.decode_and_crop_jpeg(
            payload, window // reduction, channels=channels, ratio=reduction, dct_method="INTEGER_ACCURATE"
        )

    if len(reductions) == 1:
        return decode(1)
    fitting = tf.minimum(window[2] // height, window[3] // width)  # by how much the window may be reduced
    chosen = tf.reduce_sum(tf.cast(fitting >= reductions[1:], tf.int32))
    return tf.switch_case(chosen, [lambda reduction=reduction: decode(reduction) for reduction in reductions])


def crop_image(image: Any, window: Any) -> Any:  # noqa: ANN401 - tensors
    """Cut (4,) int32 top, left, height, width out of an image (h, w, c)."""
    return tf.slice(image, tf.concat([window[:2], [0]], 0), tf.concat([window[2:], [-1]], 0))


def resize_window(image: Any, height: int, width: int, largest: tuple[int, int] | None = None) -> Any:  # noqa: ANN401 - tensors
    """Resize (h, w, c) uint8 to (height, width, c) uint8: bilinear, rounded.

    Antialiased, which takes several times as long, where h and w are both at least twice as large. `largest` is the
    (h, w) that no image exceeds, where that is known.
    """

    def resize() -> Any:  # noqa: ANN401 - tensors
        resized = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=(height, width), half_pixel_centers=True)
        return tf.cast(tf.round(resized[0]), tf.uint8)

    if len(_reductions(largest, height, width)) == 1:
        return tf.ensure_shape(resize(), (height, width, image.shape[-1]))
    is_far = tf.reduce_all(tf.shape(image)[:2] >= (2 * height, 2 * width))
    resized = tf.cond(is_far, lambda: resize_images(image, height, width), resize)
    return tf.ensure_shape(resized, (height, width, image.shape[-1]))


def _flip_images(images: Any, changes: Batch) -> Any:  # noqa: ANN401 - tensors
    # images: (b, h, w, c); changes: (b,) bool
    for key, axis in _FLIP_AXES.items():
        if key in changes:
            images = tf.raw_ops.Select(condition=changes[key], x=tf.reverse(images, [axis + 1]), y=images)
    return images


def _flip_image(image: Any, changes: Batch) -> Any:  # noqa: ANN401 - tensors
    # image: (h, w, c); changes: () bool
    for key, axis in _FLIP_AXES.items():
        if key in changes:
            flip = functools.partial(tf.reverse, image, [axis])
            image = tf.cond(changes[key], flip, functools.partial(tf.identity, image))
    return image


class DecodePipeline:
    """Decodes batches ahead of their use; iterate over it, or over its `dataset` with `explain` for the errors.

    Each batch keeps its size, which may vary and be 0. Images come out in the input shape: resized when theirs differs,
    gray repeated when three channels are wanted. Without windows and flips they are what `decode_image` makes of them.
    """

    def __init__(
        self,
        batches: Iterable[reader.RecordBatch],
        image: dataset.ImageFacts,
        input_shape: Sequence[int],
        *,
        most_images: int,
        prefetch_batches: int = 2,
        companions: Companions | None = None,
        signature: Mapping[str, tf.TensorSpec] | None = None,
    ) -> None:
        """Build the pipeline; nothing is read before it is iterated over.

        Args:
            batches: read once per iteration; a `Prefetcher` serves one iteration.
            image: what the data set says of its images.
            input_shape: (height, width, channels) of the model.
            most_images: of a batch.
            prefetch_batches: decoded batches kept ready.
            companions: more for each batch.
            signature: shapes and types of what `companions` gives.

        Raises:
            errors.ConfigError: the input shape cannot be made of these images.
        """
        _check_input_shape(input_shape, image)
        self._batches = batches
        self._image = image
        self._height, self._width, self._channels = input_shape
        self._largest = (image.max_height, image.max_width)
        self._companions = companions
        self._signature = dict(signature or {})
        self._failure: errors.TrainerError | None = None
        self._most_images = most_images
        self._prefetch_batches = prefetch_batches
        threads = tf.config.threading.get_inter_op_parallelism_threads() or len(os.sched_getaffinity(0))
        self._parallel_calls = _CALLS_PER_THREAD * threads
        self._recent: collections.deque[reader.RecordBatch] = collections.deque()
        self._dataset = self._build()

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
                for record_id, record in zip(batch.record_ids, batch.records, strict=True):
                    if fault := self._find_fault(record):
                        return errors.DataCorruptError(
                            f"record {record.key!r} (record id {record_id}) must be {fault}, and it is not. "
                            "Remove it from the source and pack the data set again."
                        )
        return error

    def _find_fault(self, record: example.Record) -> str | None:
        """Return what the record's bytes must be and are not."""
        try:
            image = _decode_bytes(record.payload, self._channels)
        except tf.errors.OpError:
            return "an image that decodes"
        size = (record.height, record.width)
        if "windows" in self._signature and tuple(image.shape[:2]) != size:
            return f"an image of {size[0]} x {size[1]} pixels, as the data set says"
        return None

    def _build(self) -> Any:  # noqa: ANN401 - tf.data.Dataset
        options = tf.data.Options()
        # The sampler shards already.
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        is_streamed = self._image.encoding != "raw" and math.prod(self._largest) >= _STREAMED_AREA
        decoded = self._build_by_image() if is_streamed else self._build_by_batch()
        return decoded.prefetch(self._prefetch_batches).with_options(options)

    def _build_by_batch(self) -> Any:  # noqa: ANN401 - tf.data.Dataset
        signature = {**image_rows.FIELDS, **self._signature}
        batches = tf.data.Dataset.from_generator(self._feed, output_signature=signature)
        return batches.map(self._decode, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True)

    def _build_by_image(self) -> Any:  # noqa: ANN401 - tf.data.Dataset
        rows = image_rows.ImageRows(self._signature, self._most_images)
        return (
            tf.data.Dataset.from_generator(lambda: map(rows.split, self._feed()), output_signature=rows.signature)
            .unbatch()
            .map(self._decode_row, num_parallel_calls=self._parallel_calls, deterministic=True)
            .batch(rows.places)
            .map(rows.join)
        )

    def _feed(self) -> Iterator[dict[str, Any]]:
        try:
            for batch in self._batches:
                self._remember(batch)
                if self._image.encoding == "raw":
                    self._check_raw(batch)
                more = self._companions(batch) if self._companions else {}
                yield {"payloads": batch.payloads, "labels": batch.labels, "record_ids": batch.record_ids, **more}
        except errors.TrainerError as e:
            self._failure = e
            raise

    def _remember(self, batch: reader.RecordBatch) -> None:
        """Keep the batches that may be in the pipeline, to find the record that failed."""
        under_way = max(2 * _PARALLEL_BATCHES, 1 + math.ceil(self._parallel_calls / max(1, len(batch))))
        while len(self._recent) > self._prefetch_batches + under_way + 1:
            self._recent.popleft()
        self._recent.append(batch)

    def _check_raw(self, batch: reader.RecordBatch) -> None:
        size_bytes = (self._image.height or 0) * (self._image.width or 0) * self._image.channels
        for record in batch.records:
            if len(record.payload) != size_bytes or record.format != "raw":
                raise errors.DataCorruptError(
                    f"record {record.key!r} must be {size_bytes} raw bytes, got {len(record.payload)} of "
                    f"{record.format!r}. Pack the data set again."
                )

    def _decode(self, element: Batch) -> Batch:
        payloads, changes, more = _part(element)
        if self._image.encoding != "raw":
            images = self._decode_files(payloads, changes)
        elif "windows" in changes:
            images = self._cut_raw(self._decode_raw(payloads), changes)
        else:
            images = _flip_images(self._resize_raw(self._decode_raw(payloads)), changes)
        return {"images": images, **more}  # images: (batch, height, width, channels) uint8

    def _decode_row(self, row: Batch) -> Batch:
        payload, changes, more = _part(row)
        return {"images": self._decode_file(payload, changes), **more}  # images: (height, width, channels) uint8

    def _decode_raw(self, payloads: Any) -> Any:  # noqa: ANN401 - tensors
        shape = (-1, self._image.height, self._image.width, self._image.channels)
        return tf.reshape(tf.io.decode_raw(payloads, tf.uint8), shape)

    def _resize_raw(self, images: Any) -> Any:  # noqa: ANN401 - tensors
        # images: (batch, stored height, stored width, stored channels) uint8
        if self._channels != self._image.channels:
            images = tf.repeat(images, self._channels, axis=-1)
        if (self._height, self._width) != (self._image.height, self._image.width):
            images = resize_images(images, self._height, self._width)
        return images

    def _cut_raw(self, images: Any, changes: Batch) -> Any:  # noqa: ANN401 - tensors
        def cut(index: Any) -> Any:  # noqa: ANN401 - tensors
            own = _take(changes, index)
            cropped = crop_image(images[index], own["windows"])
            return _flip_image(resize_window(cropped, self._height, self._width, self._largest), own)

        made = self._map(cut, tf.shape(images)[0], self._image.channels)
        return made if self._channels == self._image.channels else tf.repeat(made, self._channels, axis=-1)

    def _decode_files(self, payloads: Any, changes: Batch) -> Any:  # noqa: ANN401 - tensors
        def decode(index: Any) -> Any:  # noqa: ANN401 - tensors
            return self._decode_file(tf.gather(payloads, index), _take(changes, index))

        return self._map(decode, tf.shape(payloads)[0], self._channels)

    def _decode_file(self, payload: Any, changes: Batch) -> Any:  # noqa: ANN401 - tensors
        size = (self._channels, self._height, self._width)
        if "windows" not in changes:
            return _flip_image(decode_image(payload, *size), changes)
        encoding = self._image.encoding
        image = decode_window(payload, changes["windows"], *size, largest=self._largest, encoding=encoding)
        return _flip_image(image, changes)

    def _map(self, make: Callable[[Any], Any], count: Any, channels: int) -> Any:  # noqa: ANN401 - tensors
        """Stack the images that `make` gives for 0 ... count - 1.

        The bytes of an image are taken from the batch when it is their turn. Handed to map_fn itself, they would all be
        copied at first, into fresh memory whose page faults cost a tenth of the decoding.
        """
        return tf.map_fn(
            make,
            tf.range(count),
            fn_output_signature=tf.TensorSpec((self._height, self._width, channels), tf.uint8),
            parallel_iterations=_PARALLEL_IMAGES,
        )


def _part(element: Batch) -> tuple[Any, Batch, Batch]:
    """Return the payloads, how their images change, and what stays as it is."""
    changes = {key: tensor for key, tensor in element.items() if key in ("windows", *_FLIP_AXES)}
    more = {key: tensor for key, tensor in element.items() if key != "payloads" and key not in changes}
    return element["payloads"], changes, more


def _take(changes: Batch, index: Any) -> Batch:  # noqa: ANN401 - tensors
    return {key: tf.gather(tensor, index) for key, tensor in changes.items()}


def _check_input_shape(input_shape: Sequence[int], image: dataset.ImageFacts) -> None:
    is_valid = len(input_shape) == 3 and min(input_shape) >= 1 and input_shape[2] in (1, 3)
    if not is_valid:
        raise errors.ConfigError(f"spec.model.inputShape must be [height, width, 1 or 3], got {list(input_shape)!r}.")
    if input_shape[2] < image.channels:
        raise errors.ConfigError(
            f"spec.model.inputShape must have {image.channels} channels, as the data set's images have, got "
            f"{list(input_shape)!r}. Change it, or pack the images with --channels 1."
        )
