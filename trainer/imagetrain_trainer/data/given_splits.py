"""The splits that a source gives itself, by the names that people use for them. Pure."""

import re

from imagetrain_trainer import errors

TRAIN, VALIDATION, TEST = "train", "validation", "test"
_BY_NAME = {
    "train": TRAIN, "training": TRAIN,
    "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION,
    "test": TEST, "testing": TEST,
}  # fmt: skip
_IN_FILE_NAME = re.compile(r"(?:^|[-_.])(training|train|validation|valid|val|testing|test)(?=[-_.]|$)")


def find(name: str) -> str | None:
    """Return the split that a folder's or column's text names, in any case; None when it names none."""
    return _BY_NAME.get(name.strip().lower())


def parse(text: str) -> str | None:
    """Return the split that a text names, None when it is blank.

    Raises:
        errors.ConfigError: it names none; the message is a rule, for the caller to prefix with the place.
    """
    if not text.strip():
        return None
    found = find(text)
    if found is None:
        raise errors.ConfigError(f"must be train, validation or test, or be left empty, got {text[:80]!r}")
    return found


def find_in_path(path: str) -> str | None:
    """Return the split that a file's path names: a folder such as `train/`, or a part of the file's own name.

    `train-00000-of-00010`, `imagenet-validation-003.tar` and `test/shard-0.tar` name one; `trainstation.tar` does not.
    """
    *folders, name = path.lower().split("/")
    for folder in reversed(folders):
        if folder in _BY_NAME:
            return _BY_NAME[folder]
    match = _IN_FILE_NAME.search(name)
    return _BY_NAME[match.group(1)] if match else None


def settle(split: str | None, present: frozenset[str | None]) -> str | None:
    """Return the split that a record is given when folders or file names give it.

    A train part that comes with a test part alone is everything but test: validation is cut from it, as from the
    arrays of an .npz file.

    Args:
        split: of the record's folder or file.
        present: of all of them.
    """
    return None if split == TRAIN and present == {TRAIN, TEST} else split
