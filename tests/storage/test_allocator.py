"""What becomes of freed memory."""

import platform
import resource

import pytest

from imagetrain_trainer.storage import allocator

RECORD_BYTES, RECORDS = 110_000, 300


def count_page_faults(rounds: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        records = [bytes(RECORD_BYTES) for _ in range(RECORDS)]
        records.clear()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_memory_of_freed_records_is_used_again_without_page_faults() -> None:
    assert allocator.keep_freed_memory()
    count_page_faults(rounds=1)
    pages = RECORDS * RECORD_BYTES / resource.getpagesize()
    assert count_page_faults(rounds=10) < pages  # by default each round faults in every page again: ten times as many
