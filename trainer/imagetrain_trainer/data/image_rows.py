"""Batches as rows of one image each, and rows as batches of the same sizes again, in a tf.data pipeline.

Between the two, tf.data may work on images one by one. A batch of no images has one row, a blank image, for its other
figures to travel in.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

FIELDS = {
    "payloads": tf.TensorSpec((None,), tf.string),
    "labels": tf.TensorSpec((None,), tf.int32),
    "record_ids": tf.TensorSpec((None,), tf.int64),
}
"""Of every batch that is fed to the pipeline."""
_BLANK = (  # a gray PNG file of 2 x 2 pixels: a window of ones lies within it
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x02\x08\x00\x00\x00\x00W\xddR\xf8"
    b"\x00\x00\x00\x0eIDATx\xdac`````\x00\x00\x00\x06\x00\x01o\xea\xd7\x9c\x00\x00\x00\x00IEND\xaeB`\x82"
)


class ImageRows:
    """Splits and joins; the fields of a batch are `FIELDS` and those of `more`.

    Attributes:
        signature: of what `split` gives.
    """

    def __init__(self, more: Mapping[str, tf.TensorSpec]) -> None:
        self._scalars = frozenset(key for key, spec in more.items() if spec.shape.rank == 0)
        self.signature = {
            **FIELDS,
            "sizes": tf.TensorSpec((None,), tf.int64),
            **{key: tf.TensorSpec((None, *spec.shape[1:]), spec.dtype) for key, spec in more.items()},
        }

    def split(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Give every field of a batch one row an image."""
        size = len(batch["payloads"])
        rows = {
            key: np.full(max(1, size), value) if key in self._scalars else value if size else _one_row(value)
            for key, value in batch.items()
            if key != "payloads"
        }
        return {**rows, "payloads": batch["payloads"] or [_BLANK], "sizes": np.full(max(1, size), size, np.int64)}

    @staticmethod
    def size(row: Mapping[str, Any]) -> Any:  # noqa: ANN401 - tensors
        """Return how many images the row's batch has: () int64."""
        return row["sizes"]

    @staticmethod
    def places(size: Any) -> Any:  # noqa: ANN401 - tensors
        """Return how many rows a batch of that many images has: () int64."""
        return tf.maximum(size, 1)

    def collect(self, size: Any, rows: Any) -> Any:  # noqa: ANN401 - tensors, tf.data.Dataset
        """Put the rows of one batch together."""
        return rows.batch(self.places(size))

    def join(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch that the rows were."""
        size = rows["sizes"][0]
        return {
            key: value[0] if key in self._scalars else value[:size] for key, value in rows.items() if key != "sizes"
        }


def _one_row(values: Any) -> Any:  # noqa: ANN401 - arrays
    return np.ones((1, *values.shape[1:]), values.dtype)
