"""The command line as a whole: help, version, errors and exit statuses."""

import os
import subprocess
import sys

import pytest
import yaml

import jobs
from imagetrain_client.cli import main

COMMANDS = [
    [],
    ["validate"],
    ["run"],
    ["data"],
    ["data", "pack"],
    ["data", "info"],
    ["models"],
    ["models", "list"],
    ["models", "show"],
    ["models", "download"],
    ["checkpoints"],
    ["checkpoints", "list"],
    ["checkpoints", "verify"],
    ["checkpoints", "export"],
    ["predict"],
]
HEAVY = ("tensorflow", "numpy", "boto3", "obstore", "PIL", "rich", "yaml", "jinja2")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_examples(capsys, command):
    assert main.run_command([*command, "--help"]) == 0
    output = capsys.readouterr().out
    assert "Examples:\n  imagetrain" in output
    assert "--debug" in output


def test_help_loads_nothing_heavy():
    script = f"""
import sys
from imagetrain_client.cli import main
assert main.run_command(["--help"]) == 0
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_no_command_loads_tensorflow_for_its_help():
    lines = [f"main.run_command({[*command, '--help']!r})" for command in COMMANDS]
    script = "\n".join(
        ["import sys", "from imagetrain_client.cli import main", *lines, "assert 'tensorflow' not in sys.modules"]
    )
    subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)


def test_the_version_is_shown(capsys):
    assert main.run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("imagetrain 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["run"],
        ["run", "job.yaml", "--workers", "0"],
        ["run", "job.yaml", "--deadline", "soon"],
        ["run", "job.yaml", "--deadline", "0s"],
        ["data", "pack", "a", "b", "--split", "3:1"],
        ["data", "pack", "a", "b", "--shard-size", "big"],
        ["models", "download", "s3://models", "--format", "onnx"],
        ["predict", "model"],
    ],
)
def test_a_wrong_usage_exits_with_2(capsys, arguments):
    assert main.run_command(arguments) == 2
    assert "Error: " in capsys.readouterr().err


def test_a_valid_manifest_is_summed_up(tmp_path, capsys):
    path = jobs.write_manifest(tmp_path)
    assert main.run_command(["validate", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: valid (tiny: small_cnn, 2 workers, 2 epochs)\n"


def test_a_printed_manifest_has_all_defaults_and_is_valid_again(tmp_path, capsys):
    path = jobs.write_manifest(tmp_path)
    assert main.run_command(["validate", str(path), "--print", "--set", "training.epochs=3"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["spec"]["training"]["epochs"] == 3
    assert "stepTimeoutSeconds" in printed
    path.write_text(printed)
    assert main.run_command(["validate", str(path), "--print"]) == 0
    assert capsys.readouterr().out == printed


def test_all_files_are_checked_and_the_first_bad_one_does_not_stop(tmp_path, capsys):
    good = jobs.write_manifest(tmp_path)
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.read_text().replace("workers: 2", "workers: 0"))
    assert main.run_command(["validate", str(tmp_path / "absent.yaml"), str(bad), str(good)]) == 100
    shown = capsys.readouterr()
    assert "absent.yaml must be a manifest file" in shown.err
    assert "spec.workers must be an integer >= 1 and <= 256, got 0." in shown.err
    assert "valid (tiny" in shown.out


@pytest.mark.parametrize("arguments", [["--debug", "validate"], ["validate", "--debug"]])
def test_a_traceback_is_shown_with_debug_alone(tmp_path, capsys, arguments):
    manifest = jobs.write_manifest(tmp_path, workers=0)
    assert main.run_command(["run", str(manifest)]) == 100
    assert "Traceback" not in capsys.readouterr().err
    assert main.run_command(["run", str(manifest), "--debug"]) == 100
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OSError(28, "No space left on device", "/tmp/x"), 84, "/tmp/x: No space left on device. Free space"),
        (PermissionError(13, "Permission denied", "/tmp/x"), 100, "/tmp/x: Permission denied."),
        (KeyError("x"), 110, "unexpected error: KeyError: 'x'. Run it again with --debug"),
        (KeyboardInterrupt(), 130, "interrupted."),
    ],
)
def test_any_error_is_one_line_and_a_status(tmp_path, capsys, monkeypatch, error, status, line):
    def fail(*_):
        raise error

    monkeypatch.setattr("imagetrain_client.manifests.read_manifest", fail)
    assert main.run_command(["run", "job.yaml"]) == status
    shown = capsys.readouterr().err
    assert shown.startswith(f"imagetrain: {line}")
    assert shown.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    path = jobs.write_manifest(tmp_path)
    command = f"{sys.executable} -m imagetrain_client.cli.main validate --print {path} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=os.environ)
    assert result.stderr == ""
