"""How class names and their order come out of what a source says record by record."""

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.data import class_labels


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["dog", "cat", "dog", "Ant"], ("Ant", "cat", "dog")),
        (["10", "9", "0"], ("0", "9", "10")),
        (["01", "1", "2"], ("01", "1", "2")),
        (["10", "9", "-1"], ("-1", "10", "9")),  # not all are numbers of classes
        (["²", "1"], ("1", "²")),
    ],
)
def test_names_sort_by_code_point_or_as_numbers(names, expected):
    labels = class_labels.ClassLabels()
    assert [labels.add(name) for name in names] == names
    assert labels.ordered() == expected


def test_numbers_give_the_order_and_texts_the_names():
    labels = class_labels.ClassLabels()
    seen = [(517, "crane"), (3, "shark"), (134, "crane"), (3, None), (517, "crane"), (20, None)]
    assert [labels.add_number(*pair) for pair in seen] == ["crane", "shark", "crane (134)", "shark", "crane", "20"]
    assert labels.ordered() == ("shark", "20", "crane (134)", "crane")


def test_a_number_with_two_texts_and_negative_ones_are_refused():
    labels = class_labels.ClassLabels()
    labels.add_number(3, "shark")
    with pytest.raises(errors.ConfigError, match="must have one text for label 3, got 'shark' and 'whale'"):
        labels.add_number(3, "whale")
    with pytest.raises(errors.ConfigError, match="must have a label of 0 or more, got -1"):
        labels.add_number(-1, "none")


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, "\ufeffcat"])
def test_names_that_cannot_be_printed_are_refused(name):
    with pytest.raises(errors.ConfigError, match="must have a printable class of 1 to 200 characters"):
        class_labels.ClassLabels().add(name)
