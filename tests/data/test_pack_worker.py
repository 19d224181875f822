"""How a packing worker reads: many objects at once where each waits for a network, and in the rows' order always."""

import threading

import numpy as np
import pytest

import packing_sources
from imagetrain_trainer import errors
from imagetrain_trainer.data import encoding, images, pack_list, pack_worker


class MeetingSource(packing_sources.TableSource):
    """Gives an image only when four are asked for at once."""

    concurrent_reads = 4

    def __init__(self):
        super().__init__([])
        self.barrier = threading.Barrier(4, timeout=30)

    def read(self, locator):
        if locator.startswith("meet"):
            self.barrier.wait()
        return super().read(locator)


def work_on(source, locators):
    rows = [pack_list.Row(position, locator, 0, locator) for position, locator in enumerate(locators)]
    return pack_worker.work_on(pack_worker.Work(source, encoding.EncodingOptions(), None, images.ImagePolicy()), rows)


def test_reads_that_wait_for_a_network_are_under_way_together():
    locators = [f"meet/{number}" for number in range(8)]
    chunk = work_on(MeetingSource(), locators)
    assert [record.key for record in chunk.records] == locators


def test_rows_come_in_order_and_refusals_stay_with_theirs():
    locators = ["a/0", "bad/1", "a/2", "a/3", "bad/4", *(f"a/{number}" for number in range(5, 40))]
    ahead, one_by_one = MeetingSource(), packing_sources.TableSource([])
    assert one_by_one.concurrent_reads == 1
    chunk = work_on(ahead, locators)
    assert chunk == work_on(one_by_one, locators)
    assert [refusal.position for refusal in chunk.refusals] == [1, 4]


def test_a_failure_of_the_storage_stops_the_work():
    with pytest.raises(errors.StorageUnavailableError, match="s3://photos/lost cannot be read"):
        work_on(MeetingSource(), ["a/0", "a/1", "lost/2", *(f"a/{number}" for number in range(3, 40))])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imagetrain-read")]


def test_pixels_are_those_of_the_source():
    source = packing_sources.TableSource([])
    chunk = work_on(source, ["a/0"])
    assert source.read("a/0").tobytes() in chunk.frames
    assert np.array_equal(chunk.records[0].pixel_sums, [int(source.read("a/0").sum())])
