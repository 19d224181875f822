import json
import pathlib

import numpy as np
import pytest
import safetensors.numpy

from imagetrain_client.cli import main
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import checkpoints

RUN = "20261124-101500-x7k2"


def state(value):
    return {
        "model/0000/conv/kernel": np.full((2, 2), value, np.float32),
        "model/0001/conv/bias": np.full(2, value, np.float32),
        "optimizer/0000/iteration": np.array(7),
    }


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    for run, steps in (("20261101-000000-aaaa", (5,)), (RUN, (10, 20))):
        saved = checkpoints.CheckpointStore(store.open_store(f"{folder}/runs/{run}"), keep=5, job="photos")
        saved.fence.take(1, "a")
        saved.fence.branch(0)
        for step in steps:
            saved.save(checkpoints.Checkpoint(step=step, arrays=state(step), host={}))
    (folder / "runs" / "20261201-000000-new").mkdir()  # has no checkpoint yet
    return folder


def run(capsys, *arguments):
    status = main.run_command(["checkpoints", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_newest_run_with_a_checkpoint_is_listed(capsys, output):
    status, text, _ = run(capsys, "list", output)
    assert status == 0
    assert RUN in text
    assert [line.split()[:2] for line in text.splitlines() if line.strip()[:2] in ("10", "20")] == [
        ["10", "1"],
        ["20", "1"],
    ]


def test_list_is_a_document_too(capsys, output):
    status, text, _ = run(capsys, "list", output, "--json", "--run", "20261101-000000-aaaa")
    document = json.loads(text)
    assert (status, document["run"]) == (0, "20261101-000000-aaaa")
    (checkpoint,) = document["checkpoints"]
    assert (checkpoint["step"], checkpoint["workers"], checkpoint["counts"], checkpoint["problem"]) == (5, 1, True, "")


def test_branch_that_was_given_up_is_marked(capsys, output):
    saved = checkpoints.CheckpointStore(store.open_store(f"{output}/runs/{RUN}"), keep=5)
    saved.fence.take(1, "a")
    saved.fence.branch(10)
    _, text, _ = run(capsys, "list", output)
    assert "given up" in next(line for line in text.splitlines() if line.strip().startswith("20"))


def test_damage_is_found_and_told_by_the_status(capsys, output):
    assert run(capsys, "verify", output)[:2] == (0, "step 10: whole\nstep 20: whole\n")
    (path,) = output.glob(f"runs/{RUN}/checkpoints/step-000000000010/g*/state-*")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    status, text, _ = run(capsys, "verify", output)
    assert status == 101
    assert "step 10: file://" in text
    assert "does not match the digest" in text
    assert text.endswith("step 20: whole\n")


@pytest.mark.parametrize(("step", "value"), [("newest", 20), ("10", 10)])
@pytest.mark.parametrize("name", ["w.safetensors", "w.npz"])
def test_weights_are_exported_without_the_optimizer(capsys, output, tmp_path, step, value, name):
    target = tmp_path / name
    status, text, _ = run(capsys, "export", output, step, target)
    assert (status, text) == (0, f"{target}: 2 variables of step {value}\n")
    loaded = safetensors.numpy.load_file(target) if target.suffix == ".safetensors" else dict(np.load(target))
    assert loaded.keys() == {"conv/kernel", "conv/bias"}
    np.testing.assert_array_equal(loaded["conv/kernel"], np.full((2, 2), value, np.float32))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["export", "OUT", "15", "w.npz"], "STEP must be newest or one of 10, 20, got '15'."),
        (["export", "OUT", "10", "w.h5"], "DEST must end in .safetensors or .npz, got 'w.h5'."),
        (["list", "OUT", "--run", "nobody"], "which has none."),
        (["list", "OUT/elsewhere"], "URI must be the output.uri of a job with checkpoints"),
    ],
)
def test_what_is_not_there_is_said(capsys, output, monkeypatch, tmp_path, arguments, problem):
    monkeypatch.chdir(tmp_path)
    status, _, text = run(capsys, *(argument.replace("OUT", str(output)) for argument in arguments))
    assert status == 100
    assert problem in text
    assert not list(pathlib.Path(tmp_path).glob("w.*"))
