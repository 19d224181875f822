import os
import pathlib

import pytest

import supervised
from imagetrain_api import names
from imagetrain_trainer.worker import forking, lifeline, supervisor


@pytest.fixture
def harness(tmp_path: pathlib.Path):
    lifeline.become_subreaper()
    variables = {
        **os.environ,
        "PYTHONPATH": str(supervised.SUPPORT),
        names.ENV_CONFIG: str(tmp_path / "worker.json"),
        names.ENV_WORK_DIR: str(tmp_path),
        names.ENV_RANK: "0",
    }
    worker = supervised.build_worker(tmp_path)
    with (tmp_path / "log").open("wb") as log:
        starter = forking.ForkServer(variables, log, "stand_in_training")
        link = supervised.Link()
        yield supervised.Harness(
            supervisor.Supervisor(worker, link, starter, variables, link), link, starter, variables
        )
        starter.close()
