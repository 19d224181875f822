import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.publish import labels


@pytest.mark.parametrize("classes", [("cat", "dog"), ("",), (" a b ", "é\u2028ü", "x\x85y"), ("0",)])
def test_names_come_back_as_they_were(tmp_path, classes):
    path = tmp_path / "labels.txt"
    path.write_bytes(labels.format_labels(classes).encode())
    assert labels.read_labels(path) == classes


@pytest.mark.parametrize("content", [b"cat\ndog", b"cat\r\ndog\r\n"])
def test_files_edited_by_hand_are_read(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)
    assert labels.read_labels(tmp_path / "labels.txt") == ("cat", "dog")


def test_a_name_of_two_lines_is_refused():
    with pytest.raises(errors.ConfigError, match=r"class name must be one line, got 'a\\nb'"):
        labels.format_labels(("a\nb",))
