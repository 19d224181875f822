import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetrain_api import job, names, plan, schema, worker_config

MANIFEST = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {"name": "digits", "namespace": "vision"},
    "spec": {
        "workers": 3,
        "data": {"uri": "s3://datasets/digits/"},
        "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
        "output": {"uri": "s3://models/digits/"},
    },
}


def planned(workers: int = 3, **changes: object) -> plan.WorkerGroupPlan:
    decoded = job.decode_job({**MANIFEST, "spec": {**MANIFEST["spec"], "workers": workers}})
    arguments = {
        "run_id": "r1",
        "endpoints": plan.kubernetes_endpoints(decoded),
        "config_path": "/etc/imagetrain/worker.json",
        "environment": {"A": "1"},
    }
    return plan.plan_worker_group(decoded, **{**arguments, **changes})


def test_same_job_gives_the_same_plan() -> None:
    assert planned() == planned()


def test_plan_names_the_document_and_keeps_the_places_environment() -> None:
    group = planned()
    assert group.environment == {"A": "1", names.ENV_CONFIG: "/etc/imagetrain/worker.json"}
    assert group.workers == 3
    assert group.command == ("imagetrain-worker",)


def test_pod_addresses_are_those_of_an_indexed_job_behind_its_service() -> None:
    hosts = [endpoint.host for endpoint in planned().config.endpoints]
    assert hosts == ["digits-0-0.digits", "digits-0-1.digits", "digits-0-2.digits"]


def test_endpoints_must_fit_the_worker_count() -> None:
    with pytest.raises(schema.ValidationError, match="endpoints must hold one endpoint a worker"):
        planned(endpoints=planned().config.endpoints[:2])


@given(st.integers(1, 256))
def test_config_document_survives_its_file(workers: int) -> None:
    config = planned(workers).config
    assert worker_config.load_worker_config(worker_config.dump_worker_config(config)) == config


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schemaVersion": 2}'])
def test_damaged_config_document_is_refused(text: str) -> None:
    with pytest.raises(schema.ValidationError):
        worker_config.load_worker_config(text)


def test_newer_config_document_is_refused_by_version() -> None:
    document = json.loads(worker_config.dump_worker_config(planned().config))
    with pytest.raises(schema.ValidationError, match="schemaVersion must be 1"):
        worker_config.load_worker_config(json.dumps({**document, "schemaVersion": 2}))


def test_run_id_is_fit_for_a_key_and_a_host_name() -> None:
    with pytest.raises(schema.ValidationError, match="runId"):
        planned(run_id="Run_1")


def test_plan_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        planned().name = "other"  # type: ignore[misc]


def test_api_imports_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, pkgutil, importlib, imagetrain_api\n"
        "before = set(sys.modules)\n"
        "[importlib.import_module(f'imagetrain_api.{m.name}') for m in pkgutil.iter_modules(imagetrain_api.__path__)]\n"
        "new = {n.partition('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(sorted(n for n in new if not n.startswith('imagetrain_api')))\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
