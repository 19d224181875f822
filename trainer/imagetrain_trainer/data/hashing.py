"""Counter-based random numbers: a 64-bit hash of (seed, stream, index, ...), the same in every version and machine.

numpy's own generators may change their streams between versions and must be drawn in order; a hash of the index needs
no state, so any record's or step's numbers can be had at any time. The mixer is the finaliser of splitmix64 (Steele,
Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), a bijection on 64-bit words.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Parts = int | npt.NDArray[np.integer[Any]]
"""A seed, a stream number, or indices; taken modulo 2**64."""

_MASK = (1 << 64) - 1
_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, splitmix64's increment
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53  # a double has 53 bits of mantissa


def hash_u64(*parts: Parts) -> npt.NDArray[np.uint64]:
    """Hash the parts, in their order, to 64-bit words; arrays broadcast.

    With the other parts fixed, distinct values of the last part give distinct hashes.

    Returns:
        An array of the broadcast shape of all parts.
    """
    shape = np.broadcast_shapes(*(np.shape(part) for part in parts))
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = _mix((state ^ _as_words(part)) + _GAMMA)
    return np.broadcast_to(state.reshape(state.shape if shape else ()), shape)


def uniform(*parts: Parts) -> npt.NDArray[np.float64]:
    """Hash the parts to numbers in [0, 1), of the broadcast shape of all parts; give each use its own stream number."""
    return (hash_u64(*parts) >> np.uint64(11)).astype(np.float64) * _UNIT


def hash_text(seed: int, text: str) -> int:
    """Hash a text, such as a file name, to a 64-bit number (BLAKE2b, keyed by the seed)."""
    key = (seed & _MASK).to_bytes(8, "little")
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8, key=key).digest(), "little"
    )


def _as_words(part: Parts) -> npt.NDArray[np.uint64]:
    if isinstance(part, int):
        return np.array([part & _MASK], np.uint64)
    return np.atleast_1d(part).astype(np.uint64)  # at least one axis: numpy warns of overflow on scalars alone


def _mix(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIER_1
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIER_2
    return words ^ (words >> np.uint64(31))
