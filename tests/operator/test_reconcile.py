"""The cache of jobs: what counts as news."""

import copy
import pathlib
from typing import Any

import pytest

import jobs
from imagetrain_operator import observed, reconcile


def build_raw() -> dict[str, Any]:
    manifest = jobs.build_document(pathlib.Path("/x"))
    metadata = {"name": "digits", "namespace": "vision", "uid": "u1", "generation": 1, "resourceVersion": "10"}
    return {**manifest, "metadata": metadata, "status": {"phase": "Suspended"}}


@pytest.mark.parametrize(
    ("change", "is_news"),
    [
        ({}, False),
        ({"annotations": {"example.com/change": "1"}, "labels": {"team": "vision"}}, False),
        ({"generation": 2}, True),
        ({"deletionTimestamp": "2026-11-24T10:00:00Z"}, True),
        ({"uid": "u2"}, True),  # another job of the same name
    ],
)
def test_only_what_decides_something_is_news(change: dict[str, Any], is_news: bool) -> None:  # noqa: FBT001
    cache = reconcile.JobCache()
    assert cache.put(build_raw())[1]
    changed = copy.deepcopy(build_raw())
    changed["metadata"] |= {**change, "resourceVersion": "11"}
    assert cache.put(changed)[1] == is_news
    known = cache.get(observed.Key("vision", "digits"))
    assert known is not None
    assert known.resource_version == "11"  # the audit of the watch compares it


def test_status_that_another_hand_changed_is_news() -> None:
    cache = reconcile.JobCache()
    cache.put(build_raw())
    changed = build_raw()
    changed["metadata"]["resourceVersion"] = "11"
    changed["status"] = {"phase": "Failed"}
    assert cache.put(changed)[1]
