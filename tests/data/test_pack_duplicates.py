"""Equal images: in two splits they stop a pack, under two labels they are told, and in one split they are counted."""

import pytest

import packing_sources
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, pack, pack_duplicates
from imagetrain_trainer.storage import store


def given(entries, split):
    return [entry._replace(given_split=split, key=f"{split}/{entry.key}") for entry in entries]


@pytest.fixture
def pack_table(tmp_path):
    def run(entries, **options):
        return pack.pack(packing_sources.TableSource(entries), str(tmp_path / "out"), pack.PackOptions(**options))

    return run


TRAIN = given(packing_sources.make_entries(5, 5), "train")
TEST = given(packing_sources.make_entries(3, 3, prefix="new "), "test")


def test_an_image_in_two_splits_stops_the_pack_and_names_both(pack_table, tmp_path):
    leak = TRAIN[2]._replace(key="test/copy", given_split="test")
    with pytest.raises(
        errors.ConfigError,
        match=r"no image may be in two splits.* 1 are, such as 'train/a/2' \(train, a\) and 'test/copy' \(test, a\)\. "
        "Remove one of each, give both one group, or pack with --allow-leakage",
    ):
        pack_table([*TRAIN, *TEST, leak])
    assert not (tmp_path / "out" / "dataset.json").exists()
    summary = pack_table([*TRAIN, *TEST, leak], allow_leakage=True)
    assert summary.resumed == 17  # nothing is packed twice
    assert summary.duplicates.across_splits == 1
    loaded = dataset.load_dataset(store.open_store(str(tmp_path / "out")))
    assert loaded.duplicates == dataset.DuplicateCounts(images=1, across_splits=1, across_classes=0)


def test_the_leak_is_gone_when_both_images_are_of_one_group(pack_table):
    entries = packing_sources.make_entries(9, 9)
    entries = [entry._replace(group=entry.key) for entry in entries]
    copy = entries[4]._replace(key="copy")
    assert pack_table([*entries, copy]).duplicates.images == 1


def test_copies_in_one_split_are_counted_and_those_of_two_labels_told(pack_table):
    copies = [
        TRAIN[0]._replace(key="train/again"),
        TRAIN[0]._replace(key="train/once more"),
        TRAIN[1]._replace(key="train/other", class_name="b"),
    ]
    report = pack_table([*TRAIN, *TEST, *copies]).duplicates
    assert (report.images, report.across_splits, report.across_classes) == (3, 0, 1)
    assert {place.key for place in report.class_pairs[0]} == {"train/a/1", "train/other"}
    assert {place.key for place in report.pairs[0]} <= {"train/a/0", "train/again", "train/once more"}


class Places:
    """Every position is in the train split; counts how often its place is asked for."""

    asked = 0

    def split_of(self, position):
        del position
        return "train"

    def place_of(self, position):
        self.asked += 1
        return pack_duplicates.Place(str(position), "train", "a")


def test_examples_end_at_their_limit():
    hashes = [(number.to_bytes(2, "big"), 2 * number + copy, 0) for number in range(1500) for copy in range(2)]
    report = pack_duplicates.find_duplicates(hashes, Places())
    assert report.images == 1500
    assert len(report.pairs) == pack_duplicates.MAX_EXAMPLES


def test_a_million_copies_of_one_image_are_counted_without_looking_each_up():
    places = Places()
    report = pack_duplicates.find_duplicates(((b"x", position, 0) for position in range(10**6)), places)
    assert report.images == 10**6 - 1
    assert places.asked == 2
