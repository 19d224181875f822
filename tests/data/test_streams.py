"""No two uses of a seed draw figures that have to do with each other."""

import itertools

import numpy as np
import pytest

from imagetrain_trainer.data import hashing
from imagetrain_trainer.data.streams import Stream

RECORDS = np.arange(20_000)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(Stream, 2)))
def test_figures_of_two_streams_are_uncorrelated(first, second):
    one, other = (hashing.uniform(7, 3, stream, RECORDS) for stream in (first, second))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.04  # 5.6 standard deviations
