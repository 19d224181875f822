"""The tightest limit is named with its stage, and the advice fits the images."""

import pytest

from imagetrain_trainer.data import bench, bench_verdict, dataset

MILLISECOND = 1e-3


def stage(name, cpu_milliseconds, images_per_second=1000.0):
    return bench.Stage(
        name=name,
        images=1000,
        size_bytes=1e8,
        seconds=1000 / images_per_second,
        cpu_seconds=1000 * cpu_milliseconds * MILLISECOND,
    )


def facts(encoding="jpeg", longest=500):
    return dataset.ImageFacts(
        encoding=encoding,
        channels=3,
        height=None,
        width=None,
        min_height=100,
        max_height=longest,
        min_width=100,
        max_width=longest,
    )


def judge(stages, image=None, *, cores=4, is_resident=False, shape=(224, 224, 3)):
    return bench_verdict.judge(stages, cores=cores, image=image or facts(), input_shape=shape, is_resident=is_resident)


READING = [stage("get", 0.1, 5000), stage("crc", 0.01), stage("parse", 0.04)]
PIXELS = [stage("batch", 0.05), stage("decode", 3.0), stage("augment", 0.8)]


@pytest.mark.parametrize(
    ("stages", "options", "bound"),
    [
        ([*READING, *PIXELS], {}, ("cores", "decode", 1000)),
        ([*READING, stage("batch", 0.05), stage("decode", 0.5), stage("augment", 3.3)], {}, ("cores", "augment", 1000)),
        ([stage("get", 0.1, 80), *READING[1:], *PIXELS], {}, ("storage", "get", 80)),
        # What stays in memory is fetched once.
        ([stage("get", 0.1, 80), *READING[1:], *PIXELS], {"is_resident": True}, ("cores", "decode", 1000)),
        ([stage("get", 0.1, 9e9), stage("crc", 0.2), stage("parse", 1.8)], {}, ("python", "parse", 500)),
        ([*READING, *PIXELS, stage("copy", 0.0, 300)], {}, ("copy", "copy", 300)),
        (READING, {"shape": None}, ("storage", "get", 5000)),
        # The cache is measured beside the way from the store, not on it.
        ([*READING, stage("cache write", 99), *PIXELS], {}, ("cores", "decode", 1000)),
    ],
)
def test_the_tightest_limit_bounds(stages, options, bound):
    verdict = judge(stages, **options)
    assert (verdict.bound.name, verdict.bound.stage) == bound[:2]
    assert verdict.bound.images_per_second == pytest.approx(bound[2], rel=1e-6)
    rates = [limit.images_per_second for limit in verdict.limits]
    assert rates == sorted(rates)
    assert verdict.advice


def test_decoding_large_images_asks_for_smaller_or_decoded_ones():
    advice = judge([*READING, *PIXELS]).advice
    assert "imagetrain data pack --encoding jpeg --longest-side 256" in advice[0]
    assert "150,528 bytes" in advice[1]
    assert "imagetrain data pack --encoding raw --size 224x224" in advice[1]


def test_decoding_small_images_asks_for_decoded_ones_alone():
    advice = judge([*READING, *PIXELS], facts(longest=256)).advice
    assert len(advice) == 2
    assert "--encoding raw" in advice[0]


def test_raw_images_are_not_asked_to_be_packed_again():
    assert not any("data pack" in each for each in judge([*READING, *PIXELS], facts("raw", 224)).advice)


def test_slow_storage_asks_for_a_cache_first():
    assert "spec.data.cache" in judge([stage("get", 0.1, 80), *READING[1:], *PIXELS]).advice[0]
