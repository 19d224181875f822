"""Which texts and paths name a split."""

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import given_splits


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", "train"), ("Training", "train"), (" VAL ", "validation"), ("valid", "validation"),
        ("validation", "validation"), ("test", "test"), ("testing", "test"), ("", None), ("  ", None),
    ],
)  # fmt: skip
def test_usual_names_are_known(text, expected):
    assert given_splits.parse(text) == expected


@pytest.mark.parametrize("text", ["dev", "trains", "train test", "0"])
def test_other_names_are_refused(text):
    with pytest.raises(errors.ConfigError, match=f"must be train, validation or test, or be left empty, got '{text}'"):
        given_splits.parse(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("train-00000-of-00010", "train"),
        ("validation-00000-of-00001.tfrecord", "validation"),
        ("imagenet2012-val.tfrecord-00000-of-00064", "validation"),
        ("flowers_test.tfrecord", "test"),
        ("set.test.0001.tar", "test"),
        ("train/shard-00000.tfrecord", "train"),
        ("Val/part.tar", "validation"),
        ("test/train-0.tar", "test"),  # a folder says more than a file's name
        ("shard-00000.tar", None),
        ("trainstation-0.tar", None),
        ("latest-0.tar", None),
        ("contest/0.tar", None),
    ],
)
def test_a_path_names_its_split(path, expected):
    assert given_splits.find_in_path(path) == expected


@pytest.mark.parametrize(
    ("split", "present", "expected"),
    [
        ("train", {"train", "test"}, None),  # validation is cut from it
        ("test", {"train", "test"}, "test"),
        ("train", {"train", "validation"}, "train"),
        ("train", {"train", "validation", "test"}, "train"),
        ("train", {"train"}, "train"),
        (None, {None}, None),
        (None, {None, "test"}, None),
    ],
)
def test_a_train_part_beside_a_test_part_alone_is_divided(split, present, expected):
    assert given_splits.settle(split, frozenset(present)) == expected
