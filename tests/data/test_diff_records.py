"""The comparison record by record, against one that a few lines of Python do in memory."""

import collections

import hypothesis
import pytest
from hypothesis import strategies

import tiny_datasets
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, diff, diff_records
from imagetrain_trainer.storage import store

CLASSES = ("cat", "dog")
rows = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(dataset.SPLITS),
        strategies.integers(0, 1),
        strategies.sampled_from(["a", "b", "c", "d\udcff", "é"]),
        strategies.sampled_from([bytes(4), b"\x01\x02\x03\x04", b"abcd"]),
    ),
    max_size=12,
)


def compare(folder, rows_a, rows_b, classes_b=CLASSES):
    for name, classes, chosen in (("a", CLASSES, rows_a), ("b", classes_b, rows_b)):
        tiny_datasets.write(store.open_store(str(folder / name)), classes, chosen)
    return diff.diff(str(folder / "a"), str(folder / "b"))


@hypothesis.settings(max_examples=150, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(rows_a=rows, rows_b=rows)
def test_counts_are_those_of_a_comparison_in_memory(tmp_path_factory, rows_a, rows_b):
    found = compare(tmp_path_factory.mktemp("diff"), rows_a, rows_b)
    a, b = collections.Counter(rows_a), collections.Counter(rows_b)
    if found.is_identical:
        assert a == b
        return
    records = found.records
    assert found.is_same == (a == b)
    assert records.unchanged == (a & b).total()
    keys_a, keys_b = (collections.Counter(row[2] for row in each.elements()) for each in (a - b, b - a))
    assert records.added.count == (keys_b - keys_a).total()
    assert records.removed.count == (keys_a - keys_b).total()
    assert records.moved.count == sum(records.moves.values()) <= (keys_a & keys_b).total()
    trained = {row[3] for row in rows_a if row[0] == "train"}
    assert records.leaked.count == sum(row[0] == "test" and row[3] in trained for row in rows_b)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (("train", 0, "k", b"aaaa"), ("train", 0, "k", b"bbbb"), {"changed"}),
        (("train", 0, "k", b"aaaa"), ("train", 1, "k", b"aaaa"), {"relabeled"}),
        (("train", 0, "k", b"aaaa"), ("test", 0, "k", b"aaaa"), {"moved", "leaked"}),
        (("test", 0, "k", b"aaaa"), ("train", 0, "k", b"aaaa"), {"moved"}),
        (("train", 0, "k", b"aaaa"), ("test", 1, "k", b"bbbb"), {"moved", "relabeled", "changed"}),
        (("train", 0, "k", b"aaaa"), ("train", 0, "l", b"aaaa"), {"added", "removed"}),
        (("train", 0, "k", b"aaaa"), ("test", 0, "l", b"aaaa"), {"added", "removed", "leaked"}),
    ],
)
def test_each_change_has_its_kind(tmp_path, before, after, kinds):
    records = compare(tmp_path, [before], [after]).records
    document = records.as_json()
    assert {kind for kind, each in document.items() if isinstance(each, dict) and each["count"]} == kinds


def test_a_class_is_known_by_its_name_not_its_label(tmp_path):
    found = compare(tmp_path, [("train", 0, "k", b"aaaa")], [("train", 1, "k", b"aaaa")], ("dog", "cat"))
    assert found.is_reordered
    assert not found.is_same
    assert found.records.is_same
    assert found.records.unchanged == 1


def test_the_first_twenty_of_a_kind_are_named_and_all_are_counted(tmp_path):
    found = compare(tmp_path, [], [("train", 0, f"k{number:02}", b"aaaa") for number in range(25)])
    assert found.records.added.count == 25
    assert found.records.added.first == [f"k{number:02} (train, cat)" for number in range(20)]


def test_a_full_temporary_folder_is_told_as_such(tmp_path, monkeypatch):
    open_database = diff_records._open

    def open_small(path):
        database = open_database(path)
        database.execute("PRAGMA max_page_count = 3")
        return database

    monkeypatch.setattr(diff_records, "_open", open_small)
    with pytest.raises(errors.DiskFullError, match="must have room for the keys"):
        compare(tmp_path, [], [("train", 0, f"k{number:05}", b"aaaa") for number in range(2000)])
