import os

import pytest

from imagetrain_client.cli import native_output


@pytest.mark.parametrize(("is_shown", "seen"), [(True, "chatter"), (False, "")])
def test_native_chatter_is_hidden_unless_asked_for(capfd, is_shown, seen):
    with native_output.hidden_unless(is_shown):
        os.write(2, b"chatter")
    assert capfd.readouterr().err == seen


def test_standard_error_is_back_after_an_error(capfd):
    with pytest.raises(ValueError, match="no"), native_output.hidden_unless(False):
        raise ValueError("no")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
