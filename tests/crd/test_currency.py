import pathlib

import pytest

from imagetrain_operator.crd import __main__ as command
from imagetrain_operator.crd import files

ROOT = pathlib.Path(__file__).parents[2]
FILES = files.build_files()


@pytest.mark.parametrize("name", FILES)
def test_generated_file_is_current(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name], f"{name} is not current; run: make manifests"


def test_command_writes_what_changed_and_names_it(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path)]) == 0
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == set(FILES)
    assert capsys.readouterr().out == "".join(f"{name} written\n" for name in FILES)
    (tmp_path / "docs/manifest.md").write_text("old")
    command.main([str(tmp_path)])
    assert capsys.readouterr().out == "docs/manifest.md written\n"
