"""What kubectl makes of the definition: columns, names, and a status that only its subresource changes."""

import collections.abc
import json
import re
from typing import Any

import pytest

import job_tables
import raw_api
from imagetrain_api import schema, status
from imagetrain_cluster import access
from imagetrain_operator.crd import definition

STATUS = status.JobStatus(
    observed_generation=1,
    phase="Training",
    reason="StepsAdvance",
    message="Training on 2 workers.",
    ready="2/2",
    attempt=1,
    attempt_start_time="2026-11-24T10:00:00Z",
    restarts=1,
    run_id="fashion-12345678",
    start_time="2026-11-24T09:00:00Z",
    conditions=(
        status.Condition(
            type="Accepted", status="True", reason="Valid", last_transition_time="2026-11-24T09:00:00Z", message="ok"
        ),
    ),
    progress=status.ProgressStatus(
        epoch=2,
        total_epochs=5,
        epochs="2/5",
        step=120,
        total_steps=600,
        steps="120/600",
        images_per_second=1234.5,
        eta_seconds=130,
        eta="2m10s",
        loss=0.25,
        accuracy=0.9876,
        checkpoint_step=100,
    ),
    attempts=(status.AttemptStatus(attempt=0, reason="PeerLost", rank=1, exit_code=80, checkpoint_step=100),),
    outputs=status.OutputStatus(
        manifest_uri="s3://models/fashion/runs/fashion-12345678/manifest.json",
        artifacts=(status.ArtifactStatus(format="tflite_int8", size_bytes=1024, accuracy=0.98),),
    ),
)


@pytest.fixture
def stored_job(api_server: raw_api.RawApi) -> collections.abc.Iterator[str]:
    """Return the path of a job with a full status."""
    created = api_server.create(job_tables.GOOD, dry_run=False)
    assert created.is_accepted, created.message
    path = raw_api.jobs_path(created.body["metadata"]["name"])
    written = api_server.request(
        "PUT", f"{path}/status?fieldValidation=Strict", {**created.body, "status": schema.encode(STATUS)}
    )
    assert written.is_accepted, written.message
    yield path
    api_server.request("DELETE", path)


def table(api: access.Access, *arguments: str) -> list[list[str]]:
    printed = api.kubectl("get", *arguments, f"--namespace={job_tables.NAMESPACE}")
    return [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]


def patterns(node: Any) -> collections.abc.Iterator[str]:
    """Yield every regular expression of the definition, those inside CEL too."""
    if isinstance(node, dict):
        yield from (node[key] for key in ("pattern", "rule") if isinstance(node.get(key), str))
        for item in node.values():
            yield from patterns(item)
    if isinstance(node, list):
        for item in node:
            yield from patterns(item)


def test_columns_show_how_far_a_job_is(stored_job: str, kubernetes_api: access.Access) -> None:
    head, row = table(kubernetes_api, "itj")
    assert head == ["NAME", "PHASE", "READY", "EPOCH", "STEP", "IMAGES/S", "ACCURACY", "ETA", "AGE"]
    assert row[:-1] == ["fashion", "Training", "2/2", "2/5", "120/600", "1234.5", "0.9876", "2m10s"]


def test_wide_columns_show_why_and_where_the_models_are(stored_job: str, kubernetes_api: access.Access) -> None:
    head, row = table(kubernetes_api, "itj", "--output=wide")
    assert head[-2:] == ["REASON", "MODEL URI"]
    assert row[-2:] == ["StepsAdvance", STATUS.outputs.manifest_uri if STATUS.outputs else ""]


def test_get_all_shows_jobs(stored_job: str, kubernetes_api: access.Access) -> None:
    assert "imagetrainingjob.imagetrain.dev/fashion" in kubernetes_api.kubectl(
        "get", "all", f"--namespace={job_tables.NAMESPACE}"
    )


def test_status_comes_back_as_it_was_written(stored_job: str, api_server: raw_api.RawApi) -> None:
    answer = api_server.request("GET", stored_job)
    assert schema.decode(status.JobStatus, answer.body["status"]) == STATUS


def test_status_is_not_written_with_the_spec(stored_job: str, api_server: raw_api.RawApi) -> None:
    job = api_server.request("GET", stored_job).body
    answer = api_server.request("PUT", stored_job, {**job, "status": {"phase": "Failed"}})
    assert answer.body["status"]["phase"] == "Training"


def test_unknown_phase_and_condition_are_refused(stored_job: str, api_server: raw_api.RawApi) -> None:
    job = api_server.request("GET", stored_job).body
    written = {**schema.encode(STATUS), "phase": "Dreaming"}
    answer = api_server.request("PUT", f"{stored_job}/status", {**job, "status": written})
    assert answer.fields[0] == "status.phase"


def test_applying_the_same_manifest_again_changes_nothing(kubernetes_api: access.Access, stored_job: str) -> None:
    manifest = json.dumps(job_tables.changed({"metadata.name": "twice"}))
    where = f"--namespace={job_tables.NAMESPACE}"
    kubernetes_api.kubectl("apply", "--filename=-", where, stdin=manifest)
    try:
        assert "unchanged" in kubernetes_api.kubectl("apply", "--filename=-", where, stdin=manifest)
    finally:
        kubernetes_api.kubectl("delete", "itj/twice", where)


def test_explain_knows_every_field(kubernetes_api: access.Access, api_server: raw_api.RawApi) -> None:
    assert "Peak learning rate." in kubernetes_api.kubectl("explain", "itj.spec.training.optimizer.learningRate")


def test_no_pattern_means_something_else_to_the_api_server_than_to_python() -> None:
    found = list(patterns(definition.build_definition()))
    assert found
    # Look-around is unknown to RE2, and these classes are all of Unicode in Python.
    assert not [each for each in found if re.search(r"\(\?[=!<]|\\\\?[wWdDsSbB]", each)]
