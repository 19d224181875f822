"""Manifests that hypothesis makes: each is refused with its fields named or gives a plan, and the API server agrees."""

from typing import Any

import hypothesis

import manifest_strategies
import raw_api
from imagetrain_api import job, names, plan, schema, worker_config

# The same manifests in every run, however slow the machine.
fixed = hypothesis.settings(
    derandomize=True,
    database=None,
    phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    deadline=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.filter_too_much,
    ],
)


def decode(manifest: Any) -> tuple[job.ImageTrainingJob | None, list[str]]:
    """Return the job, or the fields that its errors name."""
    try:
        return job.decode_job(manifest), []
    except schema.ValidationError as error:
        return None, [str(each).partition(" must ")[0] for each in error.errors]


@hypothesis.settings(fixed, max_examples=1000)
@hypothesis.given(manifest_strategies.broken_manifests())
def test_any_manifest_is_refused_with_a_named_field_or_gives_a_plan(manifest: Any) -> None:
    decoded, fields = decode(manifest)
    if decoded is None:
        assert fields
        assert all(fields)
        return
    group = plan.plan_worker_group(
        decoded,
        run_id="run",
        endpoints=plan.kubernetes_endpoints(decoded),
        config_path=f"{names.CONFIG_DIR}/{names.CONFIG_FILE}",
        environment={},
    )
    assert group.workers == decoded.spec.workers
    assert worker_config.load_worker_config(worker_config.dump_worker_config(group.config)) == group.config


@hypothesis.settings(fixed, max_examples=300)
@hypothesis.given(manifest=manifest_strategies.broken_manifests())
def test_api_server_agrees_on_any_manifest(api_server: raw_api.RawApi, manifest: Any) -> None:
    decoded, fields = decode(manifest)
    answer = api_server.create(manifest)
    assert answer.is_accepted == (decoded is not None), (fields, answer.message)
    assert answer.is_accepted or 400 <= answer.status < 500
    if answer.fields:
        near = [name for name in answer.fields for field in fields if is_near(name, field)]
        assert near, (fields, answer.message)


@hypothesis.settings(fixed, max_examples=200)
@hypothesis.given(pair=manifest_strategies.changes())
def test_api_server_agrees_on_any_change(api_server: raw_api.RawApi, pair: tuple[Any, Any]) -> None:
    (old, _), (new, _) = map(decode, pair)
    hypothesis.assume(old is not None and new is not None)
    assert old is not None
    assert new is not None
    manifests = [{**raw_api.as_sent(manifest), "metadata": {"name": "changed"}} for manifest in pair]
    created = api_server.create(manifests[0], dry_run=False)
    assert created.is_accepted, created.message
    path = raw_api.jobs_path("changed")
    try:
        manifests[1]["metadata"]["resourceVersion"] = created.body["metadata"]["resourceVersion"]
        answer = api_server.request("PUT", f"{path}?fieldValidation=Strict&dryRun=All", manifests[1])
    finally:
        api_server.request("DELETE", path)
    refused = {error.path for error in schema.transition_errors(old.spec, new.spec, "spec")}
    assert set(answer.fields) == refused, answer.message
    assert answer.is_accepted == (not refused)


def is_near(one: str, other: str) -> bool:
    """Tell whether a field is another one, or lies inside it, or the other way round."""
    return any(f"{inner}.".startswith((f"{outer}.", f"{outer}[")) for inner, outer in ((one, other), (other, one)))
