import pathlib

import pytest

from imagetrain_operator.crd import files

ROOT = pathlib.Path(__file__).parents[2]
FILES = files.build_files()


@pytest.mark.parametrize("name", FILES)
def test_generated_file_is_current(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name], f"{name} is not current; run: make manifests"
