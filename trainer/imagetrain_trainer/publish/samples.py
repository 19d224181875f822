"""Choosing a few test images for the report while the test split streams by: wrong answers first, then each class."""

import base64
import dataclasses
import heapq
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_WRONG = 12
MAX_RIGHT = 12
_MAX_SIDE_PIXELS = 160  # the report shows them smaller than this; a larger image would only bloat it


@dataclasses.dataclass(slots=True)
class SampleCollector:
    """Keeps the most confident wrong answers, and the first right one of each class in turn."""

    classes: Sequence[str]
    _wrong: list[tuple[float, int, dict[str, Any]]] = dataclasses.field(default_factory=list)
    _right: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    _seen: int = 0

    def add(
        self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Look at a batch: images (n, height, width, channels), labels (n,), probabilities (n, classes)."""
        answers = probabilities.argmax(axis=1)
        for index, (label, answer) in enumerate(zip(labels.tolist(), answers.tolist(), strict=True)):
            self._seen += 1
            probability = float(probabilities[index, answer])
            if label == answer:
                if label not in self._right and len(self._right) < MAX_RIGHT:
                    self._right[label] = self._describe(images[index], label, answer, probability)
            elif len(self._wrong) < MAX_WRONG or probability > self._wrong[0][0]:
                entry = (probability, self._seen, self._describe(images[index], label, answer, probability))
                (heapq.heappush if len(self._wrong) < MAX_WRONG else heapq.heapreplace)(self._wrong, entry)

    def collect(self) -> list[dict[str, Any]]:
        """Return wrong answers, most confident first, then right ones in class order."""
        wrong = [sample for _, _, sample in sorted(self._wrong, key=lambda entry: (-entry[0], entry[1]))]
        return wrong + [self._right[label] for label in sorted(self._right)]

    def _describe(self, image: npt.NDArray[np.uint8], label: int, answer: int, probability: float) -> dict[str, Any]:
        return {
            "png_base64": encode_png(image),
            "label": self.classes[label],
            "predicted": self.classes[answer],
            "probability": round(probability, 4),
        }


def encode_png(image: npt.NDArray[np.uint8]) -> str:
    """Return an image (height, width, 1 or 3) as a base64 PNG, made smaller where it is large."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((_MAX_SIDE_PIXELS, _MAX_SIDE_PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
