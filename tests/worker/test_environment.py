import json
import os
import pathlib
import subprocess
import sys

import pytest

from imagetrain_api import exit_codes, job, names, plan, worker_config
from imagetrain_trainer import errors
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.worker import environment, outcomes

MANIFEST = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "digits"},
    "spec": {
        "workers": 2,
        "data": {"uri": "s3://datasets/digits/"},
        "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
        "output": {"uri": "s3://models/digits/"},
    },
}


@pytest.fixture
def variables(tmp_path: pathlib.Path) -> dict[str, str]:
    decoded = job.decode_job(MANIFEST)
    config = worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=plan.kubernetes_endpoints(decoded))
    (tmp_path / "worker.json").write_text(worker_config.dump_worker_config(config))
    return {
        names.ENV_CONFIG: str(tmp_path / "worker.json"),
        names.ENV_RANK: "1",
        names.ENV_WORK_DIR: str(tmp_path / "work"),
    }


def test_environment_is_parsed_and_the_scratch_folder_made(variables: dict[str, str]) -> None:
    worker = environment.read_environment(variables)
    assert worker.rank == 1
    assert worker.endpoint.host == "digits-0-1.digits"
    assert worker.work_dir.is_dir()
    assert worker.cpu_threads is None
    assert worker.termination_path is None


def test_members_are_by_default_one_an_endpoint(variables: dict[str, str]) -> None:
    members = environment.read_environment(variables).members
    assert [(each.worker, each.host) for each in members] == [(0, "digits-0-0.digits"), (1, "digits-0-1.digits")]


def test_generation_and_its_members_are_read(variables: dict[str, str]) -> None:
    members = (messages.Member(worker=1, host="here", collective_port=7),)
    told = {
        names.ENV_RANK: "0",
        names.ENV_GENERATION: "3",
        names.ENV_RESUME_STEP: "0",
        names.ENV_MEMBERS: environment.encode_members(members),
    }
    worker = environment.read_environment({**variables, **told})
    assert (worker.generation, worker.resume_step, worker.members) == (3, 0, members)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (names.ENV_RANK, "2", "IMAGETRAIN_RANK must be an integer from 0 to 1, got '2'"),
        (names.ENV_RANK, "-1", "IMAGETRAIN_RANK must be an integer"),
        (names.ENV_RANK, "", "IMAGETRAIN_RANK must be set"),
        (names.ENV_CONFIG, "", "IMAGETRAIN_CONFIG must be set"),
        (names.ENV_CONFIG, "/nowhere", "IMAGETRAIN_CONFIG must name a readable file"),
        (names.ENV_CPU_THREADS, "two", "IMAGETRAIN_CPU_THREADS must be an integer"),
        (names.ENV_MEMBERS, "[1]", "IMAGETRAIN_MEMBERS must be a list of members"),
        (names.ENV_MEMBERS, "3", "IMAGETRAIN_MEMBERS must be a list of members"),
        (names.ENV_LOG_FORMAT, "xml", "IMAGETRAIN_LOG_FORMAT must be text or json"),
    ],
)
def test_bad_variable_is_refused_by_name(variables: dict[str, str], name: str, value: str, message: str) -> None:
    with pytest.raises(errors.ConfigError, match=message):
        environment.read_environment({**variables, name: value})


def test_config_that_breaks_a_rule_is_refused_with_its_field(variables: dict[str, str]) -> None:
    path = pathlib.Path(variables[names.ENV_CONFIG])
    document = json.loads(path.read_text())
    document["job"]["spec"]["workers"] = 0
    path.write_text(json.dumps(document))
    with pytest.raises(errors.ConfigError, match=r"job\.spec\.workers must be an integer >= 1"):
        environment.read_environment(variables)


def test_worker_with_a_bad_config_says_so_in_its_outcome_and_exit_status(
    variables: dict[str, str], tmp_path: pathlib.Path
) -> None:
    termination = tmp_path / "termination"
    told = {**os.environ, **variables, names.ENV_RANK: "7", names.ENV_TERMINATION_MESSAGE: str(termination)}
    command = [sys.executable, "-m", "imagetrain_trainer.worker.main"]
    ended = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert ended.returncode == exit_codes.ExitCode.BAD_CONFIG
    outcome = outcomes.read_outcome(termination)
    assert outcome is not None
    assert outcome.reason == "BadConfig"
    assert "IMAGETRAIN_RANK" in outcome.message
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("message", ["x" * 10000, "ü" * 10000, "\x00" * 10000, '"' * 10000])
def test_outcome_of_any_message_fits_a_termination_log(tmp_path: pathlib.Path, message: str) -> None:
    path = tmp_path / "termination"
    outcomes.write_outcome(path, outcomes.build_outcome(exit_codes.ExitCode.INTERNAL, message))
    assert len(path.read_bytes()) <= outcomes.MAX_BYTES
    assert outcomes.read_outcome(path) is not None


@pytest.mark.parametrize("text", ["", "{", '{"exitCode": 0'])
def test_half_written_outcome_is_none(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "outcome").write_text(text)
    assert outcomes.read_outcome(tmp_path / "outcome") is None
