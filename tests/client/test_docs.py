import pathlib

import pytest

from imagetrain_api.exit_codes import OUTCOMES, ExitCode

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "command-line.md"


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_status_is_documented(code):
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {int(code)} | ")]
    assert len(rows) == 1
    assert f"| {OUTCOMES[code].reason} |" in rows[0]
