import pytest

import cluster_objects
from imagetrain_api import job, worker_config
from imagetrain_operator.plan import children, parse

DEFAULTS = children.Defaults(image="registry.example.com/imagetrain/trainer:0.2.0")
OWNER = {
    "apiVersion": "imagetrain.dev/v1alpha1",
    "kind": "ImageTrainingJob",
    "name": "fashion",
    "uid": cluster_objects.JOB_UID,
    "controller": True,
}


def _parse(**settings):
    parsed = parse.parse_training_job(cluster_objects.build_training_job(**settings))
    assert parsed.errors == ()
    return parsed


def test_the_service_gives_every_worker_a_name_before_it_is_ready():
    assert children.build_service(_parse()) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "fashion",
            "namespace": "vision",
            "labels": {
                "app.kubernetes.io/name": "imagetrain",
                "app.kubernetes.io/managed-by": "imagetrain-operator",
                "imagetrain.dev/job": "fashion",
            },
            "ownerReferences": [OWNER],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"imagetrain.dev/job": "fashion", "imagetrain.dev/run": "fashion-0b8f2f6e"},
            "ports": [
                {"name": "collective", "port": 2222, "protocol": "TCP"},
                {"name": "rendezvous", "port": 2223, "protocol": "TCP"},
                {"name": "status", "port": 8080, "protocol": "TCP"},
            ],
        },
    }


def test_an_attempt_is_an_indexed_job_that_replaces_no_pod():
    built = children.build_child_job(_parse(workers=3), 4, DEFAULTS)
    template = built["spec"].pop("template")
    labels = {
        "app.kubernetes.io/name": "imagetrain",
        "app.kubernetes.io/managed-by": "imagetrain-operator",
        "imagetrain.dev/job": "fashion",
        "imagetrain.dev/run": "fashion-0b8f2f6e",
        "imagetrain.dev/attempt": "4",
    }
    assert built == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "fashion-4", "namespace": "vision", "labels": labels, "ownerReferences": [OWNER]},
        "spec": {
            "completionMode": "Indexed",
            "completions": 3,
            "parallelism": 3,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
        },
    }
    assert labels.items() <= template["metadata"]["labels"].items()


def test_what_is_built_is_read_back_as_the_job_s_own():
    parsed = _parse()
    raw = children.build_child_job(parsed, 2, DEFAULTS)
    raw["metadata"] |= {"uid": "1", "resourceVersion": "2", "creationTimestamp": "2026-03-01T10:00:01Z"}
    child = parse.parse_child_job(raw)
    assert child is not None
    assert (child.owner_uid, child.job_name, child.attempt) == (parsed.uid, "fashion", 2)


def test_the_objects_of_two_jobs_of_one_name_differ_in_their_run():
    first, second = _parse(), _parse(metadata={"uid": "77777777-3f5c-4a0e-9d0b-5a2f0e6c1d11"})
    assert children.run_id(first) == "fashion-0b8f2f6e"
    assert children.run_id(second) == "fashion-77777777"
    assert children.build_service(first)["spec"]["selector"] != children.build_service(second)["spec"]["selector"]


@pytest.mark.parametrize("name", ["a", "a" * 52, "a" * 60, "a" * 52 + "-" * 8])
def test_a_run_id_is_valid_for_every_name(name):
    parsed = parse.parse_training_job(cluster_objects.build_training_job(name=name))
    document = cluster_objects.build_training_job(workers=1)
    config = worker_config.WorkerConfig(
        run_id=children.run_id(parsed),
        job=job.decode_job(document),
        endpoints=(worker_config.WorkerEndpoint(host="a", collective_port=1, status_port=2),),
    )
    assert config.run_id.endswith("-0b8f2f6e")


def test_a_worker_setting_that_does_not_fit_is_refused_by_field():
    parsed = _parse(worker={"podTemplate": {"spec": {"containers": "worker"}}})
    with pytest.raises(ValueError, match=r"^spec\.worker\.podTemplate\.spec\.containers must be a list, got 'worker'"):
        children.build_child_job(parsed, 0, DEFAULTS)
