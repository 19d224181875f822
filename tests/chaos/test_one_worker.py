"""One worker loses its training process, its memory and its disk, and its model is the undisturbed one to the bit."""

import pytest

pytestmark = pytest.mark.timeout(300)


def test_kill_block_and_freeze_cost_time_alone(survive):
    finished = survive("kill_training", "block", "freeze_training", workers=1)
    assert len(finished.records) == 3
