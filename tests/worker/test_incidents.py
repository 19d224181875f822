import os
import pathlib
import sys

import pytest

from imagetrain_api import job, names, plan, worker_config
from imagetrain_trainer.worker import incidents, stack_text


@pytest.fixture
def variables(tmp_path: pathlib.Path) -> dict[str, str]:
    decoded = job.decode_job(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "digits"},
            "spec": {
                "data": {"uri": "file:///datasets/digits/"},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
                "output": {"uri": (tmp_path / "out").as_uri()},
            },
        }
    )
    config = worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=plan.kubernetes_endpoints(decoded))
    path = tmp_path / "worker.json"
    path.write_text(worker_config.dump_worker_config(config))
    return {
        **os.environ,
        names.ENV_CONFIG: str(path),
        names.ENV_RANK: "0",
        names.ENV_WORK_DIR: str(tmp_path / "work"),
    }


KEY = incidents.build_key(3, 1, "ab12")


@pytest.fixture
def work_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_stacks_lie_in_the_run_beside_its_checkpoints(tmp_path, work_dir, variables) -> None:
    dump = stack_text.StackDump(text="Thread 12 …\n")
    process = incidents.start_upload(dump, work_dir, key=KEY, variables=variables)
    assert process.wait(60) == 0
    place = tmp_path / "out" / "runs" / "r1" / "incidents" / "generation-0003-rank-1-ab12.txt"
    assert place.read_text() == dump.text
    config = worker_config.load_worker_config((tmp_path / "worker.json").read_text())
    assert incidents.build_uri(config.job, "r1", KEY) == place.as_uri()


def test_storage_that_cannot_be_written_loses_the_copy_there_alone(tmp_path, work_dir, variables) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    dump = stack_text.StackDump(text="Thread 12\n")
    process = incidents.start_upload(dump, work_dir, key=KEY, variables=variables)
    assert process.wait(60) not in (0, 1)
    assert (work_dir / "incidents" / "generation-0003-rank-1-ab12.txt").read_text() == dump.text


def test_module_imports_no_storage_client_before_it_is_needed() -> None:
    program = (
        "import sys; from imagetrain_trainer.worker import incidents; "
        "sys.exit(any(name in sys.modules for name in ('boto3', 'obstore', 'tensorflow')))"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", program]) == 0
