"""The work list: split and order as ever, groups never parted, every refusal named, and nothing half-written."""

import collections
import itertools
import random

import hypothesis
import pytest
from hypothesis import strategies as st

import packing_sources
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, pack_list, sources

RATIOS = {"train": 3.0, "validation": 1.0, "test": 1.0}


@pytest.fixture
def make_list(tmp_path):
    opened = []

    def make(entries, ratios=RATIOS, seed=0, class_names=None):
        path = tmp_path / f"list-{len(opened)}.sqlite"
        pack_list.write_list(path, packing_sources.TableSource(entries, class_names), ratios, seed, lambda _: None)
        opened.append(pack_list.WorkList(path))
        return opened[-1]

    yield make
    for worklist in opened:
        worklist.close()


def read_keys(worklist):
    return {
        name: [row.key for row in worklist.rows(positions.start, positions.stop)] if positions else []
        for name, positions in worklist.ranges.items()
    }


def count_classes(worklist):
    names = worklist.facts.class_names
    return {
        name: dict(collections.Counter(names[row.label] for row in worklist.rows(positions.start, positions.stop)))
        for name, positions in worklist.ranges.items()
        if positions
    }


def test_each_class_is_divided_alike(make_list):
    assert count_classes(make_list(packing_sources.make_entries(50, 5, 10))) == {
        "train": {"a": 30, "b": 3, "c": 6},
        "validation": {"a": 10, "b": 1, "c": 2},
        "test": {"a": 10, "b": 1, "c": 2},
    }


def test_the_order_of_the_source_does_not_matter_and_the_seed_does(make_list):
    entries = packing_sources.make_entries(20, 20)
    shuffled = random.Random(1).sample(entries, len(entries))
    keys = read_keys(make_list(entries, seed=7))
    assert read_keys(make_list(shuffled, seed=7)) == keys
    assert read_keys(make_list(entries, seed=8)) != keys


def test_classes_mix_in_the_stored_order(make_list):
    worklist = make_list(packing_sources.make_entries(500, 500))
    labels = [row.label for row in worklist.rows(0, worklist.facts.counts[0])]
    runs = 1 + sum(a != b for a, b in itertools.pairwise(labels))
    assert abs(runs - 300) < 60  # 600 coin tosses have 300.5 runs on average


def test_a_given_split_is_kept_and_the_rest_divided(make_list):
    given = packing_sources.make_entries(5, 7, given="test", prefix="t/")
    worklist = make_list(packing_sources.make_entries(40, 40) + given)
    assert worklist.facts.counts == (60, 20, 12)
    assert set(read_keys(worklist)["test"]) == {entry.key for entry in given}
    assert (worklist.facts.given, worklist.facts.filled) == (("test",), ("train", "validation"))


def test_a_source_may_give_every_split(make_list):
    entries = [
        entry
        for split in ("train", "test")
        for entry in packing_sources.make_entries(2, 1, given=split, prefix=f"{split}/")
    ]
    worklist = make_list(entries)
    assert worklist.facts.counts == (3, 0, 3)
    assert worklist.facts.filled == ()


def test_a_split_of_ratio_zero_is_empty(make_list):
    worklist = make_list(packing_sources.make_entries(4, 4), {"train": 3.0, "validation": 1.0, "test": 0.0})
    assert worklist.facts.counts == (6, 2, 0)


def test_rows_hold_what_was_listed(make_list):
    entries = [
        sources.Entry(f"k\udce9{number}", name, None, None, f"file {number}") for number, name in enumerate("zzzzyyyy")
    ]
    worklist = make_list(entries, class_names=("z", "y"))
    rows = [row for positions in worklist.ranges.values() for row in worklist.rows(positions.start, positions.stop)]
    assert [row.position for row in rows] == list(range(8))
    by_key = {entry.key: entry for entry in entries}
    for row in rows:
        assert row.locator == by_key[row.key].locator
        assert ("z", "y")[row.label] == by_key[row.key].class_name
    assert worklist.row(5) == rows[5]


@pytest.mark.parametrize(
    ("entries", "rule"),
    [
        ([], "source 'table' must hold at least one image"),
        (packing_sources.make_entries(10), r"must have at least 2 classes, got \['a'\]"),
        (packing_sources.make_entries(10, 2), "class 'b' must have at least 3 images, one for each split, got 2"),
        (packing_sources.make_entries(5, 5) * 2, "'a/0' must be listed once|'b/. must be listed once|listed once"),
        ([sources.Entry("x", "", None, None, "x")], "class of 'x' must have a printable name, got ''"),
        ([sources.Entry("x", "a\n", None, None, "x")], "class of 'x' must have a printable name"),
        ([sources.Entry("x", "a", "dev", None, "x")], "split of 'x' must be one of train, validation, test, got 'dev'"),
        ([sources.Entry("\ud800", "a", None, None, "x")], "key must be text that UTF-8 can hold"),
        (
            [
                sources.Entry("x", "a", "train", "g", "x"),
                sources.Entry("y", "a", "test", "g", "y"),
                *packing_sources.make_entries(5, 5),
            ],
            "group 'g' must be in one split, and the source gives some of its images to train and some to test",
        ),
        (
            [entry._replace(group=entry.class_name) for entry in packing_sources.make_entries(9, 9)],
            "class 'a' must have at least 3 groups, one for each split, got 1",
        ),
        (
            [
                entry._replace(given_split=split)
                for entry, split in zip(
                    packing_sources.make_entries(4, 4), ("train", "validation", "test", None) * 2, strict=True
                )
            ],
            "must give a split to every image",
        ),
    ],
)
def test_a_source_that_breaks_a_rule_is_named(make_list, entries, rule):
    with pytest.raises(errors.ConfigError, match=rule):
        make_list(entries)


def test_a_class_that_the_source_does_not_name_is_refused(make_list):
    with pytest.raises(errors.ConfigError, match=r"no other classes than \['a'\], got 'b'"):
        make_list(packing_sources.make_entries(5, 5), class_names=("a",))


@hypothesis.given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), min_size=1, max_size=120), st.data())
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
def test_no_group_is_parted(make_list, rows, data):
    """Some images have no group, and some groups are given a split."""
    given = {group: data.draw(st.sampled_from([None, None, "test"])) for group in {group for _, group in rows}}
    entries = [
        sources.Entry(f"{number}", name, given[group] if group else None, f"g{group}" if group else None, f"{number}")
        for number, (name, group) in enumerate(rows)
    ]
    entries += packing_sources.make_entries(20, 20)  # enough to fill every split, whatever was drawn
    worklist = make_list(entries)
    by_key = {entry.key: entry for entry in entries}
    places = collections.defaultdict(set)
    for split, keys in read_keys(worklist).items():
        for key in keys:
            entry = by_key[key]
            places[entry.group or key].add(split)
            if entry.given_split:
                assert split == entry.given_split
    assert all(len(found) == 1 for found in places.values())
    assert sum(worklist.facts.counts) == len(entries)


def test_groups_keep_near_the_share_of_every_class(make_list):
    entries = [
        entry._replace(group=f"patient {number // 7}")
        for number, entry in enumerate(packing_sources.make_entries(700, 350, 140))
    ]
    counts = count_classes(make_list(entries))
    for name, total in (("a", 700), ("b", 350), ("c", 140)):
        assert abs(counts["train"][name] - 0.6 * total) <= 7
        assert abs(counts["test"][name] - 0.2 * total) <= 7


def test_a_listing_that_fails_leaves_no_list(tmp_path):
    path = tmp_path / "list.sqlite"
    with pytest.raises(errors.ConfigError):
        pack_list.write_list(path, packing_sources.TableSource([]), RATIOS, 0, lambda _: None)
    assert not path.exists()


def test_a_damaged_list_is_named(make_list, tmp_path):
    make_list(packing_sources.make_entries(9, 9)).close()
    path = tmp_path / "list-0.sqlite"
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 5000)
    with pytest.raises(errors.ConfigError, match=r"work file '.*list-0.sqlite' must be whole and writable"):
        pack_list.WorkList(path)


def test_the_digest_tells_what_a_source_lists(make_list):
    entries = packing_sources.make_entries(9, 9)
    facts = make_list(entries, seed=3).facts
    digest = pack_list.digest_source(packing_sources.TableSource(entries), lambda _: None)
    assert facts.fits(digest, RATIOS, 3)
    assert not facts.fits(digest, RATIOS, 4)
    assert not facts.fits(digest, RATIOS | {"test": 2.0}, 3)
    other = pack_list.digest_source(packing_sources.TableSource(entries[1:]), lambda _: None)
    assert not facts.fits(other, RATIOS, 3)
    assert len(dataset.SPLITS) == len(facts.counts)
