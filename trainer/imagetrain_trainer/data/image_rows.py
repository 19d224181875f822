"""Batches as rows of one image each, and rows as batches of the same sizes again, in a tf.data pipeline.

Between the two, tf.data may work on images one by one. Every batch has the same number of rows, so that they are put
together by counting alone: tf.data's grouping by what rows say costs 4% of decoding a photograph. What a batch lacks
is filled up with blank images, which do not come out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

FIELDS = {
    "payloads": tf.TensorSpec((None,), tf.string),
    "labels": tf.TensorSpec((None,), tf.int32),
    "record_ids": tf.TensorSpec((None,), tf.int64),
}
"""Of every batch that is fed to the pipeline."""
_BLANK = bytes.fromhex(  # a gray JPEG file of 2 x 2 pixels: all decoders take it, and a window of ones lies within it
    "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
    "38375040485c4e404457453738506d51575f626768673e4d71797064785c656763ffc0000b080002000201011100ffc400140001000000000000"
    "00000000000000000000ffc40014100100000000000000000000000000000000ffda0008010100003f003fffd9"
)


class ImageRows:
    """Splits and joins; the fields of a batch are `FIELDS` and those of `more`.

    Attributes:
        signature: of what `split` gives.
        places: rows of every batch.
    """

    def __init__(self, more: Mapping[str, tf.TensorSpec], most_images: int) -> None:
        """Prepare for batches of at most that many images."""
        self.places = max(1, most_images)
        self._scalars = frozenset(key for key, spec in more.items() if spec.shape.rank == 0)
        self.signature = {
            **FIELDS,
            "sizes": tf.TensorSpec((None,), tf.int64),
            **{key: tf.TensorSpec((None, *spec.shape[1:]), spec.dtype) for key, spec in more.items()},
        }

    def split(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Give every field of a batch `places` rows.

        Raises:
            ValueError: the batch has more images than was said.
        """
        payloads = batch["payloads"]
        size, missing = len(payloads), self.places - len(payloads)
        if missing < 0:
            raise ValueError(f"a batch must have at most {self.places} images, got {size!r}.")
        rows = {
            key: np.full(self.places, value) if key in self._scalars else _fill_up(value, missing)
            for key, value in batch.items()
            if key != "payloads"
        }
        return {**rows, "payloads": [*payloads, *[_BLANK] * missing], "sizes": np.full(self.places, size, np.int64)}

    def join(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch that `places` rows were."""
        size = rows["sizes"][0]
        return {
            key: value[0] if key in self._scalars else value[:size] for key, value in rows.items() if key != "sizes"
        }


def _fill_up(values: npt.NDArray[Any], missing: int) -> npt.NDArray[Any]:
    return np.concatenate([values, np.ones((missing, *values.shape[1:]), values.dtype)]) if missing else values
