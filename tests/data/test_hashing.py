"""The hash must never change: packed data sets and resumed runs depend on it."""

import numpy as np
import pytest

from imagetrain_trainer.data import hashing


def test_the_mixer_is_splitmix64():
    """First outputs of splitmix64 seeded with 1234567, from its reference code (Vigna, prng.di.unimi.it)."""
    gamma, state = 0x9E3779B97F4A7C15, 1234567
    words = [int(hashing.hash_u64((state + i * gamma) & (2**64 - 1))) for i in range(5)]
    assert words == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_known_values_never_change():
    assert hashing.hash_u64(1, 2, np.arange(3)).tolist() == [
        16613338946343043936,
        13264548337748323810,
        16803123258551283528,
    ]
    assert hashing.hash_text(7, "cats/001.jpg") == 13297543249577920899


def test_scalars_and_arrays_agree_and_broadcast():
    epochs, ids = np.arange(3)[:, None], np.arange(4)
    table = hashing.hash_u64(5, epochs, ids)
    assert table.shape == (3, 4)
    assert table.dtype == np.uint64
    assert all(int(hashing.hash_u64(5, e, i)) == int(table[e, i]) for e in range(3) for i in range(4))
    assert hashing.hash_u64(5, 1).shape == ()


@pytest.mark.parametrize("seed", [-1, 0, 2**63, 2**64 - 1])
def test_any_integer_is_a_seed(seed):
    assert len(set(hashing.hash_u64(seed, np.arange(1000)).tolist())) == 1000


def test_uniform_numbers_are_uniform_in_each_stream_and_unrelated_between_them():
    first, second = (hashing.uniform(3, stream, np.arange(100_000)) for stream in (0, 1))
    for numbers in (first, second):
        assert numbers.dtype == np.float64
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts = np.histogram(numbers, 20, (0, 1))[0]
        assert np.abs(counts - 5000).max() < 5 * np.sqrt(5000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_texts_of_any_encoding_have_a_hash():
    assert hashing.hash_text(1, "größe") != hashing.hash_text(2, "größe")
    hashing.hash_text(1, "bad\udcff")  # a file name that is not UTF-8
