"""Names the image at which poison_model.py ends the process; that module adds an architecture wherever it is imported.

The environment variable holds the CRC-32 of its bytes.
"""

import zlib

import numpy as np

ENV_POISON = "IMAGETRAIN_POISON"


def digest(image: np.ndarray) -> int:
    """Return what names an image (height, width, channels) uint8."""
    return zlib.crc32(np.ascontiguousarray(image).tobytes())
