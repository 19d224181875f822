import json
import logging
import os

import pytest

from imagetrain_trainer.worker import log_forwarding, logs

# Line of a training process, level and message.
LINES = [
    ("plain words", "info", "plain words"),
    ("W0000 00:00:1795814925.039588   31218 port.cc:153] slow", "warning", "W0000 00:00:1795814925.039588   31218"),
    ("E0000 00:00:1795814925.039588   31218 port.cc:153] bad", "error", "E0000"),
    ('{"a": 1}', "info", '{"a": 1}'),
    ("[1]", "info", "[1]"),
    ('{"time": "2026-11-27T10:00:00+00:00", "level": "error", "logger": "x", "message": "m"}', "error", "m"),
]


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(("line", "level", "message"), LINES)
def test_line_of_the_training_process_has_level_and_place(line, level, message, root_logger, capsys) -> None:
    logs.configure("json", 3, lambda: {"generation": 2, "step": 40})
    forwarder = log_forwarding.LogForwarder()
    os.write(forwarder.descriptor, f"{line}\n".encode())
    forwarder.close()
    told = json.loads(capsys.readouterr().err)
    assert (told["rank"], told["generation"], told["step"], told["level"]) == (3, 2, 40, level)
    assert told["message"].startswith(message)


def test_traceback_of_the_training_process_follows_its_line(root_logger, capsys) -> None:
    logs.configure("text", 1, lambda: {"generation": 2, "step": 40})
    forwarder = log_forwarding.LogForwarder()
    line = {"time": "2026-11-27T10:00:00+00:00", "level": "error", "logger": "x", "message": "m", "traceback": "T\nU"}
    os.write(forwarder.descriptor, f"{json.dumps(line)}\nand \xff".encode("latin-1"))
    forwarder.close()
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR   rank=1 generation=2 step=40 m")
    assert rest[:2] == ["T", "U"]
    assert rest[2].endswith("and \ufffd")
