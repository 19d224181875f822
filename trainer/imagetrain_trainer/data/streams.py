"""The streams of `hashing`: one number for each use of a run's seed, so that no two uses ever draw the same figures.

A number is part of what a seed means: changing one changes the order or the pixels of every run.
"""

import enum


@enum.unique
class Stream(enum.IntEnum):
    """What is drawn."""

    PERMUTATION = 1
    """Order of a small split."""
    FLIP_X = 21
    """These are of each training image: changes of `augmentation`."""
    FLIP_Y = 22
    SHIFT_X = 23
    SHIFT_Y = 24
    ROTATION = 25
    ZOOM = 26
    CROP_ASPECT = 27
    CROP_HEIGHT = 28
    CROP_TOP = 29
    CROP_LEFT = 30
    BENCH_PIECES = 97
    """Pieces that `imagetrain data bench` reads."""
    CALIBRATION = 101
    """Images that set the ranges of int8 models."""
    CALIBRATION_SHARDS = 102
    """Shards that these come from."""
    SAMPLE = 103
    """Images that `imagetrain data show` and `data verify` look at."""
    BLOCKS = 111
    """These are of the order by blocks."""
    RECORDS = 112
    TURNS = 113
    CLASS_PHASE = 114
    """Where the draws of weighted classes begin."""
