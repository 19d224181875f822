"""The table of manifests, put to a real API server: it must accept and refuse what `imagetrain_api` does."""

import math
import pathlib
from typing import Any

import pytest

import job_tables
import raw_api
from imagetrain_api import job, schema
from imagetrain_cluster import access

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"

# Where both refuse, and the API server's own code answers before our schema does: what it says instead of the path.
ANSWERS = {
    "apiVersion": 'in version "v1"',
    "kind": "kind: Invalid value",
    "metadata": "metadata.name: Required value",
    "metadata.labels.team": "labels",
}


def has_no_json(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(has_no_json, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and not math.isfinite(value)


def cross_field_paths(cls: type[schema.Document] = job.JobSpec, path: str = "spec") -> set[str]:
    """Return the fields that rules over several fields name; the API server checks these even where a field is bad."""
    paths = {f"{path}.{schema.field_path(rule.field)}" for rule in cls.RULES}
    for field in schema.document_fields(cls):
        if isinstance(field.type, type) and issubclass(field.type, schema.Document):
            paths |= cross_field_paths(field.type, f"{path}.{field.key}")
    return paths


def names_the_same(answer: raw_api.Answer, fields: list[str]) -> bool:
    named = set(answer.fields)
    below = {name for name in named for field in fields if f"{name}.".startswith(f"{field}.")}
    return bool(below) and named - below <= cross_field_paths()


@pytest.mark.parametrize("changes", job_tables.ACCEPTED, ids=str)
def test_api_server_accepts_what_the_command_accepts(api_server: raw_api.RawApi, changes: dict[str, Any]) -> None:
    manifest = job_tables.changed(changes)
    manifest["metadata"].pop("resourceVersion", None)  # a create must not have it
    answer = api_server.create(manifest)
    assert answer.is_accepted, answer.message


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_api_server_accepts_every_example(
    api_server: raw_api.RawApi, kubernetes_api: access.Access, path: pathlib.Path
) -> None:
    assert "created (server dry run)" in kubernetes_api.kubectl("create", "--dry-run=server", f"--filename={path}")


@pytest.mark.parametrize(
    ("changes", "fields"), job_tables.REFUSED, ids=[f"{row[1][-1]}{n}" for n, row in enumerate(job_tables.REFUSED)]
)
def test_api_server_refuses_what_the_command_refuses_and_names_the_same_field(
    api_server: raw_api.RawApi, changes: dict[str, Any], fields: list[str]
) -> None:
    manifest = job_tables.changed(changes)
    answer = api_server.create(manifest)
    assert 400 <= answer.status < 500, answer
    if fields[0] in ANSWERS:
        assert ANSWERS[fields[0]] in answer.message
    elif has_no_json(manifest):
        assert "json parse error" in answer.message
    else:
        assert names_the_same(answer, fields), answer.message


@pytest.mark.parametrize(
    ("old", "new", "fields"), job_tables.UPDATES, ids=[f"{row[1]}{n}" for n, row in enumerate(job_tables.UPDATES)]
)
def test_api_server_allows_the_changes_that_the_command_allows(
    api_server: raw_api.RawApi, old: dict[str, Any], new: dict[str, Any], fields: list[str]
) -> None:
    created = api_server.create(job_tables.changed(old), dry_run=False)
    assert created.is_accepted, created.message
    path = raw_api.jobs_path(created.body["metadata"]["name"])
    try:
        manifest = raw_api.as_sent(job_tables.changed(new))
        manifest["metadata"]["resourceVersion"] = created.body["metadata"]["resourceVersion"]
        answer = api_server.request("PUT", f"{path}?fieldValidation=Strict&dryRun=All", manifest)
        assert sorted(answer.fields) == sorted(fields), answer.message
        assert answer.is_accepted == (not fields), answer.message
    finally:
        api_server.request("DELETE", path)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.data.uri": "s3://datasets/../fashion"},
        {"spec.data.uri": "s3://key:secret@datasets/x"},
        {"spec.output.uri": "s3://datasets/fashion/v1/models"},
        {"spec.training.optimizer": {"name": "adam", "momentum": 0.9}},
        {"spec.output.formats": ["saved_model", "saved_model"]},
    ],
    ids=str,
)
def test_api_server_tells_the_rule_in_the_words_of_the_command(
    api_server: raw_api.RawApi, changes: dict[str, Any]
) -> None:
    manifest = job_tables.changed(changes)
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(manifest)
    assert f"must {caught.value.errors[0].rule}" in api_server.create(manifest).message


def test_api_server_fills_in_the_defaults_of_the_command(api_server: raw_api.RawApi) -> None:
    filled = api_server.create(job_tables.GOOD).body
    assert filled["spec"] == schema.encode(job.decode_job(job_tables.GOOD).spec)
