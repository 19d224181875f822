"""An image at which the training process crashes: the job ends and names its step, or goes on without that step."""

import itertools
import json
import pathlib

import pytest

import poison
from imagetrain_api import exit_codes, job
from imagetrain_client import manifests
from imagetrain_trainer.data import reader
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import handover, reading

pytestmark = pytest.mark.timeout(300)  # up to three starts of two workers on a busy machine
SUPPORT = pathlib.Path(poison.__file__).parent
RECORD = 17  # of the training split


@pytest.fixture
def run_job(imagetrain, write_job, local_data, tmp_path):
    """Return a function that runs the job with the poison and returns its end, the manifest, and the poison's step."""

    def run(**recovery):
        path = write_job(
            f"file://{local_data}/",
            f"file://{tmp_path}/out/",
            model={"architecture": "poison_cnn", "module": "poison_model", "inputShape": [8, 8, 1]},
            training={"epochs": 1, "globalBatchSize": 16, "seed": 3, "stepsPerExecution": 10},
            recovery=recovery,
        )
        with reader.DatasetReader(store.open_store(str(local_data)), "train") as train:
            images, _ = next(handover.read_batches(train, (8, 8, 1)))
            step = find_step(train, manifests.decode_manifest(manifests.read_manifest(str(path))).spec)
        name = str(poison.digest(images[RECORD]))
        finished = imagetrain("run", path, "--json", PYTHONPATH=str(SUPPORT), **{poison.ENV_POISON: name})
        return finished, step

    return run


def find_step(train: reader.DatasetReader, spec: job.JobSpec) -> int:
    """Return the step, from 1, that trains on the record."""
    sampler = reading.build_sampler(train, spec)
    return next(step + 1 for step in itertools.count() if RECORD in sampler.worker_records(step, 0, 1))


def crashes(finished) -> list[tuple[str, str]]:
    """Return the reason and the message of each generation that ended."""
    told = {
        each["recovery"]["generation"]: (each["recovery"]["reason"], each["recovery"]["message"])
        for each in finished.events
        if each["event"] == "recovered"
    }
    return list(told.values())


def test_a_batch_that_crashes_twice_ends_the_job_and_is_named(imagetrain, run_job) -> None:
    finished, step = run_job()
    assert finished.status == exit_codes.ExitCode.CRASH_LOOP, finished.errors + imagetrain.logs()
    last = finished.events[-1]
    assert (last["event"], last["reason"]) == ("failed", "CrashLoop")
    assert f"twice at step {step}; the data of this step may be the cause." in last["message"]
    assert imagetrain.logs().count("poison tasted") == 2
    assert f"step {step} trains alone, on these records of the training split:" in imagetrain.logs()


def test_a_batch_that_crashes_twice_is_left_out_where_the_job_says_so(imagetrain, run_job, tmp_path) -> None:
    finished, step = run_job(skipPoisonBatches=True)
    assert finished.status == 0, finished.errors + imagetrain.logs()
    assert imagetrain.logs().count("poison tasted") == 2
    (manifest,) = (tmp_path / "out").glob("runs/*/manifest.json")
    assert json.loads(manifest.read_text())["training"]["skipped_steps"] == [step]
    assert finished.events[-1]["summary"]["skipped_steps"] == 1
    assert [reason for reason, _ in crashes(finished)] == ["Killed", "Killed"]
    assert crashes(finished)[1][1].endswith(f"twice at step {step}, which is left out from now on.")
