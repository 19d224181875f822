"""Contact sheets: the same choice each time, evenly over the classes, of images of any kind."""

import io

import numpy as np
import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.data import choose, contact_sheet, dataset, example, pack, show, versions
from imagetrain_trainer.storage import store


def encode(pixels, kind):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def choose_all(packed, **options):
    loaded = dataset.load_dataset(packed)
    return choose.choose_records(packed, loaded, "train", **{"count": 12, "seed": 0, **options})


def test_classes_have_equal_shares_and_come_in_order(packed):
    labels = [each.record.label for each in choose_all(packed)]
    assert labels == sorted(labels)
    assert np.bincount(labels).tolist() == [4, 4, 4]


def test_the_choice_is_a_function_of_the_seed_and_not_of_the_shards(tmp_path, npz, packed):
    keys = [each.record.key for each in choose_all(packed)]
    assert [each.record.key for each in choose_all(packed)] == keys
    assert [each.record.key for each in choose_all(packed, seed=1)] != keys
    pack.pack(npz, str(tmp_path / "one-shard"))
    other = store.open_store(str(tmp_path / "one-shard"))
    assert [each.record.key for each in choose_all(other)] == keys


def test_one_class_fills_the_sheet_and_no_record_comes_twice(packed):
    chosen = choose_all(packed, label=1, count=100)
    assert {each.record.label for each in chosen} == {1}
    assert len({each.record.key for each in chosen}) == len(chosen) == 18


def test_a_larger_choice_contains_the_smaller_one(packed):
    few, many = ({each.record.key for each in choose_all(packed, count=count)} for count in (6, 20))
    assert few < many


def test_a_damaged_record_is_named(packed):
    path = packed.root / "train/shard-00000.tfrecord"
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(errors.DataCorruptError, match=r"shard-00000\.tfrecord record \d+ at offset \d+ must"):
        choose_all(packed, count=60)


@pytest.mark.parametrize("split", dataset.SPLITS)
def test_a_sheet_is_written_and_says_what_is_on_it(packed, tmp_path, split):
    output = tmp_path / "sheet.png"
    shown = show.show(str(packed.root), output, show.ShowOptions(split=split, count=9))
    assert shown.class_counts == {"0": 3, "1": 3, "2": 3}
    assert shown.count == 9
    first = output.read_bytes()
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
        assert sheet.mode == "RGB"
    show.show(str(packed.root), output, show.ShowOptions(split=split, count=9))
    assert output.read_bytes() == first
    assert [path.name for path in tmp_path.glob("sheet*")] == ["sheet.png"]


def test_the_version_behind_latest_stands_on_the_sheet(npz, tmp_path, monkeypatch):
    pack.pack(npz, str(tmp_path / "x/v7"))
    versions.move(store.open_store(str(tmp_path / "x")), "v7")
    captions = []
    draw = contact_sheet.draw
    monkeypatch.setattr(contact_sheet, "draw", lambda *parts: captions.append(parts[2]) or draw(*parts))
    show.show(f"{tmp_path}/x/latest", tmp_path / "sheet.png", show.ShowOptions(count=1))
    assert captions[0].title == "numbers v7: train"
    assert captions[0].subtitle.startswith("1 of 54 images, 3 classes in all, seed 0, sha256:")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"class_name": "9"}, "--class must be one of 0, 1, 2, got '9'"),
        ({"split": "test", "class_name": "1"}, "--split must be one with images of class '1', got test"),
    ],
)
def test_what_cannot_be_shown_is_an_error(npz, tmp_path, options, rule):
    pack.pack(npz, str(tmp_path / "set"), pack.PackOptions(ratios=(3, 1, 0)))
    with pytest.raises(errors.ConfigError, match=rule):
        show.show(str(tmp_path / "set"), tmp_path / "sheet.png", show.ShowOptions(**options))
    assert not (tmp_path / "sheet.png").exists()


def make(payload, height, width, channels=3, kind="png", key="k"):
    return choose.Chosen(record=example.Record(payload, 0, kind, height, width, channels, key), key="s", number=0)


def draw_one(chosen, class_names=("a",)):
    """Draw one image; return the pixels of its field."""
    sheet = contact_sheet.draw([chosen], class_names, contact_sheet.Caption(title="t", subtitle="s"))
    box, margin, title = 128, 28, 72
    return np.asarray(sheet)[margin + title : margin + title + box, margin : margin + box]


RED = np.full((32, 64, 3), (200, 0, 0), np.uint8)
GRAY = np.full((32, 64), 90, np.uint8)


@pytest.mark.parametrize(
    ("chosen", "color", "size"),
    [
        (make(encode(RED, "PNG"), 32, 64), (200, 0, 0), (64, 128)),
        (make(RED.tobytes(), 32, 64, kind="raw"), (200, 0, 0), (64, 128)),
        (make(encode(GRAY, "JPEG"), 32, 64, 1, "jpeg"), (90, 90, 90), (64, 128)),
        (make(GRAY.tobytes(), 32, 64, 1, "raw"), (90, 90, 90), (64, 128)),
        (make(encode(np.full((300, 100, 3), (200, 0, 0), np.uint8), "PNG"), 300, 100), (200, 0, 0), (128, 43)),
        (make(encode(np.full((3, 3000), 90, np.uint8), "PNG"), 3, 3000, 1), (90, 90, 90), (1, 128)),
        (make(bytes([90]), 1, 1, 1, "raw"), (90, 90, 90), (128, 128)),
    ],
)
def test_images_of_every_kind_fit_their_field_in_their_own_colors(chosen, color, size):
    field = draw_one(chosen)
    found = np.abs(field.astype(int) - color).max(axis=2) <= 2
    rows, columns = found.any(axis=1).sum(), found.any(axis=0).sum()
    assert (rows, columns) == size


@pytest.mark.parametrize("payload", [b"", b"\x89PNG no", encode(RED, "PNG")[:-40]])
def test_an_image_that_does_not_decode_is_told_in_its_field(payload):
    field = draw_one(make(payload, 32, 64))
    assert (field == (176, 0, 32)).all(axis=2).any()


def test_any_name_can_be_drawn():
    names = ("Gebäude 建築 \u202e \x00 " + "long " * 50,)
    key = "ключ/" + "x" * 500
    assert draw_one(make(encode(RED, "PNG"), 32, 64, key=key), names).shape == (128, 128, 3)
