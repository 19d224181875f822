import json
from typing import Any

import pytest

import job_tables
from imagetrain_api import job, schema
from job_tables import ABSENT, GOOD, changed


@pytest.mark.parametrize("changes", job_tables.ACCEPTED, ids=str)
def test_good_manifest_is_accepted_and_survives_a_round_trip(changes: dict[str, Any]) -> None:
    decoded = job.decode_job(changed(changes))
    again = job.decode_job(json.loads(json.dumps(schema.encode(decoded))))
    assert again == decoded


@pytest.mark.parametrize(
    ("changes", "fields"),
    job_tables.REFUSED,
    ids=[str(row[1][-1]) + str(n) for n, row in enumerate(job_tables.REFUSED)],
)
def test_bad_manifest_is_refused_with_every_field_named(changes: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(changed(changes))
    assert [error.path for error in caught.value.errors] == fields


@pytest.mark.parametrize(
    ("old", "new", "fields"), job_tables.UPDATES, ids=[f"{row[1]}{n}" for n, row in enumerate(job_tables.UPDATES)]
)
def test_change_of_a_job_is_allowed_or_refused_with_the_field_named(
    old: dict[str, Any], new: dict[str, Any], fields: list[str]
) -> None:
    before, after = (job.decode_job(changed(changes)).spec for changes in (old, new))
    assert [error.path for error in schema.transition_errors(before, after, "spec")] == fields


@pytest.mark.parametrize("manifest", [None, [], "job", 3])
def test_anything_but_an_object_is_refused(manifest: object) -> None:
    with pytest.raises(schema.ValidationError, match="manifest must be an object"):
        job.decode_job(manifest)


def test_misspelled_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(schema.ValidationError, match=r"Did you mean spec\.training\.epochs\?"):
        job.decode_job(changed({"spec.training.epoch": 3}))


def test_misspelled_choice_is_answered_with_the_right_one() -> None:
    with pytest.raises(schema.ValidationError, match="Did you mean 'tflite_int8'"):
        job.decode_job(changed({"spec.output.formats": ["tflite_int"]}))


def test_credentials_in_a_uri_are_not_repeated() -> None:
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(changed({"spec.data.uri": "s3://AKIAKEY:hunter2@datasets/x"}))
    assert "hunter2" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(changed({"spec.model.architecture": "x" * 5000}))
    assert len(str(caught.value)) < 300


def test_document_made_in_code_obeys_the_same_rules() -> None:
    with pytest.raises(schema.ValidationError, match="everySeconds must be an integer >= 1"):
        job.CheckpointSettings(every_seconds=0)


def test_defaults_are_those_of_the_reference() -> None:
    spec = job.decode_job(changed({"spec.workers": ABSENT, "spec.training": ABSENT})).spec
    assert spec.workers == 1
    assert spec.training.optimizer.name == "adam"
    assert spec.output.formats == job.FORMATS
    assert spec.checkpoint.every_seconds == 60


def test_gpus_of_a_worker_come_from_its_limits() -> None:
    limits = {"limits": {"nvidia.com/gpu": 2}}
    assert job.decode_job(changed({"spec.worker.resources": limits})).spec.worker.gpus == 2
    assert job.decode_job(GOOD).spec.worker.gpus == 0
