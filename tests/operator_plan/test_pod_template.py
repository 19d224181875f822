import json

import hypothesis
import pytest

import cluster_objects
from imagetrain_api import names, worker_config
from imagetrain_operator.plan import parse, pod_template

IMAGE = "registry.example.com/imagetrain/trainer:0.2.0"


def _build(*, attempt=0, defaults=None, metadata=None, s3=None, workers=2, **worker):
    document = cluster_objects.build_training_job(workers=workers, worker=worker, s3=s3 or {}, metadata=metadata)
    parsed = parse.parse_training_job(document)
    assert parsed.job is not None, parsed.errors
    return pod_template.build_pod_template(
        parsed.job,
        attempt=attempt,
        run_id="fashion-0b8f2f6e",
        defaults=defaults or pod_template.Defaults(image=IMAGE),
    )


def _container(**settings):
    (container,) = _build(**settings)["spec"]["containers"]
    return container


def _env(**settings):
    return {variable["name"]: variable for variable in _container(**settings)["env"]}


def _load_config(template):
    return worker_config.load_worker_config(template["metadata"]["annotations"][names.ANNOTATION_WORKER_CONFIG])


def test_a_pod_satisfies_the_restricted_pod_security_standard():
    spec = _build()["spec"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert all(set(volume) - {"name"} <= {"emptyDir", "downwardAPI"} for volume in spec["volumes"])


def test_a_pod_runs_the_worker_and_is_never_restarted_in_place():
    spec = _build()["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["subdomain"] == "fashion"
    assert spec["terminationGracePeriodSeconds"] == 120
    (container,) = spec["containers"]
    assert (container["name"], container["image"]) == ("worker", IMAGE)
    assert container["command"] == ["imagetrain-worker"]
    assert container["ports"] == [
        {"name": "collective", "containerPort": 2222, "protocol": "TCP"},
        {"name": "rendezvous", "containerPort": 2223, "protocol": "TCP"},
        {"name": "metrics", "containerPort": 8080, "protocol": "TCP"},
    ]
    assert container["terminationMessagePath"] == names.TERMINATION_MESSAGE_PATH
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_labels_and_annotations_lead_to_the_pod():
    metadata = _build(attempt=3)["metadata"]
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "imagetrain",
        "app.kubernetes.io/managed-by": "imagetrain-operator",
        "app.kubernetes.io/component": "worker",
        "imagetrain.dev/job": "fashion",
        "imagetrain.dev/run": "fashion-0b8f2f6e",
        "imagetrain.dev/attempt": "3",
    }
    scrape = {key: value for key, value in metadata["annotations"].items() if key.startswith("prometheus.io/")}
    assert scrape == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    }


class TestConfig:
    def test_the_worker_loads_it_as_it_was_planned(self):
        config = _load_config(_build(attempt=2))
        assert config.run_id == "fashion-0b8f2f6e"
        assert config.job.metadata.namespace == "vision"
        assert [endpoint.host for endpoint in config.endpoints] == ["fashion-2-0.fashion", "fashion-2-1.fashion"]

    def test_the_downward_api_mounts_it_where_the_environment_says(self):
        spec = _build()["spec"]
        volume = next(each for each in spec["volumes"] if "downwardAPI" in each)
        mount = next(each for each in spec["containers"][0]["volumeMounts"] if each["name"] == volume["name"])
        (item,) = volume["downwardAPI"]["items"]
        assert item["fieldRef"] == {"fieldPath": "metadata.annotations['imagetrain.dev/worker-config']"}
        assert _env()["IMAGETRAIN_CONFIG"]["value"] == f"{mount['mountPath']}/{item['path']}"

    def test_it_holds_only_what_a_worker_reads(self):
        template = _build(
            resources={"limits": {"nvidia.com/gpu": 1}},
            allowCpu=True,
            env=[{"name": "TOKEN", "value": "hidden"}],
            podTemplate={"metadata": {"annotations": {"note": "long"}}},
            metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        )
        text = template["metadata"]["annotations"][names.ANNOTATION_WORKER_CONFIG]
        assert "hidden" not in text
        assert "last-applied" not in text
        worker = _load_config(template).job.spec.worker
        assert (worker.gpus, worker.allow_cpu) == (1, True)

    def test_that_of_the_largest_group_fits_an_annotation(self):
        text = _build(workers=256)["metadata"]["annotations"][names.ANNOTATION_WORKER_CONFIG]
        assert len(text) < 64 * 1024  # Kubernetes allows 256 KiB for all annotations of an object
        assert ": " not in text
        assert len(json.loads(text)["endpoints"]) == 256


class TestEnvironment:
    def test_it_tells_a_worker_its_place(self):
        env = _env()
        assert env["IMAGETRAIN_RANK"]["valueFrom"] == {
            "fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}
        }
        assert env["IMAGETRAIN_CPU_THREADS"]["valueFrom"] == {
            "resourceFieldRef": {"containerName": "worker", "resource": "limits.cpu"}
        }
        values = {name: variable["value"] for name, variable in env.items() if "value" in variable}
        assert values == {
            "IMAGETRAIN_CONFIG": "/etc/imagetrain/worker.json",
            "IMAGETRAIN_WORK_DIR": "/scratch",
            "IMAGETRAIN_TERMINATION_MESSAGE": "/dev/termination-log",
            "IMAGETRAIN_LOG_FORMAT": "json",
            "HOME": "/scratch",
            "TMPDIR": "/tmp",
        }

    def test_the_credentials_stay_in_their_secret(self):
        env = _env(s3={"credentialsSecret": "s3"})
        references = {
            name: variable["valueFrom"]["secretKeyRef"] for name, variable in env.items() if name.startswith("AWS_")
        }
        assert references == {
            "AWS_ACCESS_KEY_ID": {"name": "s3", "key": "AWS_ACCESS_KEY_ID"},
            "AWS_SECRET_ACCESS_KEY": {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY"},
            "AWS_SESSION_TOKEN": {"name": "s3", "key": "AWS_SESSION_TOKEN", "optional": True},
        }

    def test_without_a_secret_there_are_no_credentials(self):
        assert not any(name.startswith("AWS_") for name in _env())

    def test_the_user_s_variables_stand_in_for_ours_and_no_name_comes_twice(self):
        variables = [
            {"name": "HOME", "value": "/data"},
            {"name": "IMAGETRAIN_CPU_THREADS", "value": "3"},
            {"name": "X", "value": "1"},
            {"name": "X", "value": "2"},
        ]
        listed = [variable["name"] for variable in _container(env=variables)["env"]]
        assert len(set(listed)) == len(listed)
        env = _env(env=variables)
        assert env["HOME"] == {"name": "HOME", "value": "/data"}
        assert env["IMAGETRAIN_CPU_THREADS"] == {"name": "IMAGETRAIN_CPU_THREADS", "value": "3"}
        assert env["X"]["value"] == "2"  # as in a container: the last one counts


class TestVolumes:
    def test_a_worker_may_write_to_its_own_folders_alone(self):
        mounts = {mount["mountPath"]: mount for mount in _container()["volumeMounts"]}
        assert set(mounts) == {"/etc/imagetrain", "/scratch", "/tmp"}
        assert mounts["/etc/imagetrain"]["readOnly"]

    @pytest.mark.parametrize(("gpus", "is_there"), [(0, False), (1, False), (2, True), (8, True)])
    def test_shared_memory_grows_where_several_gpus_talk_through_it(self, gpus, is_there):
        spec = _build(resources={"limits": {"nvidia.com/gpu": gpus}})["spec"]
        places = [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]]
        assert ("/dev/shm" in places) == is_there
        assert any(volume.get("emptyDir") == {"medium": "Memory"} for volume in spec["volumes"]) == is_there

    def test_a_volume_of_the_user_takes_the_place_of_ours(self):
        spec = _build(
            volumes=[{"name": "fast", "ephemeral": {"volumeClaimTemplate": {}}}],
            volumeMounts=[{"name": "fast", "mountPath": "/scratch/"}],
        )["spec"]
        assert "imagetrain-scratch" not in [volume["name"] for volume in spec["volumes"]]
        assert {"name": "fast", "mountPath": "/scratch/"} in spec["containers"][0]["volumeMounts"]
        assert {"name": "fast", "ephemeral": {"volumeClaimTemplate": {}}} in spec["volumes"]


class TestSettings:
    def test_what_the_user_gives_is_passed_on(self):
        given = {
            "imagePullSecrets": [{"name": "registry"}],
            "serviceAccountName": "trainer",
            "priorityClassName": "low",
            "nodeSelector": {"pool": "gpu"},
            "affinity": {"podAntiAffinity": {}},
            "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        }
        spec = _build(terminationGracePeriodSeconds=7, **given)["spec"]
        assert {key: spec[key] for key in given} == given
        assert spec["terminationGracePeriodSeconds"] == 7
        assert not given.keys() & _build()["spec"].keys()

    def test_resources_are_passed_on(self):
        container = _container(resources={"limits": {"cpu": 2, "nvidia.com/gpu": 1}, "requests": {}})
        assert container["resources"] == {"limits": {"cpu": "2", "nvidia.com/gpu": "1"}}
        assert "resources" not in _container()

    def test_the_image_is_the_job_s_or_the_operator_s(self):
        defaults = pod_template.Defaults(image="default:1", image_pull_policy="Always", log_format="text")
        ours = _container(defaults=defaults)
        assert (ours["image"], ours["imagePullPolicy"]) == ("default:1", "Always")
        theirs = _container(defaults=defaults, image="own:2", imagePullPolicy="Never")
        assert (theirs["image"], theirs["imagePullPolicy"]) == ("own:2", "Never")
        assert "imagePullPolicy" not in _container()
        assert _env(defaults=defaults)["IMAGETRAIN_LOG_FORMAT"]["value"] == "text"

    @pytest.mark.parametrize(
        ("given", "added"),
        [
            ([], ["not-ready", "unreachable"]),
            ([{"key": "gpu", "operator": "Exists"}], ["not-ready", "unreachable"]),
            ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists"}], ["not-ready"]),
            (
                [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoSchedule"}],
                ["not-ready", "unreachable"],
            ),
            ([{"operator": "Exists"}], []),  # tolerates everything
            ([{"operator": "Exists", "effect": "NoExecute"}], []),
        ],
    )
    def test_a_pod_leaves_a_lost_node_soon_unless_it_tolerates_the_loss(self, given, added):
        defaults = pod_template.Defaults(image=IMAGE, unreachable_toleration_seconds=30)
        tolerations = _build(defaults=defaults, tolerations=given)["spec"]["tolerations"]
        assert tolerations[: len(given)] == given
        assert tolerations[len(given) :] == [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 30,
            }
            for taint in added
        ]


class TestPodTemplate:
    def test_it_has_the_last_word(self):
        patch = {
            "metadata": {"labels": {"team": "vision"}, "annotations": {"prometheus.io/scrape": None}},
            "spec": {
                "hostNetwork": True,
                "securityContext": {"runAsUser": 1000},
                "containers": [
                    {"name": "worker", "image": "own:2", "env": [{"name": "HOME", "value": "/root"}]},
                    {"name": "side", "image": "side:1"},
                ],
            },
        }
        template = _build(podTemplate=patch)
        assert template["metadata"]["labels"]["team"] == "vision"
        assert "prometheus.io/scrape" not in template["metadata"]["annotations"]
        spec = template["spec"]
        assert spec["hostNetwork"]
        assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsGroup"]) == (1000, 65532)
        assert [container["name"] for container in spec["containers"]] == ["worker", "side"]
        assert spec["containers"][0]["image"] == "own:2"
        assert {"name": "HOME", "value": "/root"} in spec["containers"][0]["env"]

    @pytest.mark.parametrize(
        "patch",
        [
            {"metadata": {"labels": {"imagetrain.dev/job": "x", "imagetrain.dev/attempt": None}}},
            {"metadata": {"labels": {"$patch": "replace"}, "annotations": {"$patch": "delete"}}},
            {"metadata": None},
            {"spec": {"restartPolicy": "Always"}},
            {"$patch": "replace", "spec": {"containers": [{"name": "worker", "image": "x"}]}},
        ],
    )
    def test_what_the_operator_finds_its_pods_by_stays(self, patch):
        template, plain = _build(podTemplate=patch), _build()
        for kind, key in (
            ("labels", "imagetrain.dev/job"),
            ("labels", "imagetrain.dev/run"),
            ("labels", "imagetrain.dev/attempt"),
            ("annotations", "imagetrain.dev/worker-config"),
        ):
            assert template["metadata"][kind][key] == plain["metadata"][kind][key]
        assert template["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize(
    ("worker", "error"),
    [
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "IMAGETRAIN_RANK", "value": "0"}]},
            r"^spec\.worker\.env\[1\]\.name must be no variable that a worker is told its place by, got 'IMAGE",
        ),
        (
            {"volumeMounts": [{"name": "x", "mountPath": "/etc/imagetrain/"}]},
            r"^spec\.worker\.volumeMounts\[0\]\.mountPath must be another place",
        ),
        (
            {"podTemplate": {"spec": {"containers": [{"name": "worker", "$patch": "delete"}]}}},
            r"^spec\.worker\.podTemplate\.spec\.containers must keep the container 'worker', got \[\]\.",
        ),
        ({"podTemplate": {"spec": None}}, r"^spec\.worker\.podTemplate\.spec\.containers must keep the container"),
        ({"podTemplate": {"$patch": "delete"}}, r"^spec\.worker\.podTemplate\.spec\.containers must keep the"),
        ({"podTemplate": {"spec": 7}}, r"^spec\.worker\.podTemplate\.spec must be an object, got 7\."),
        ({"env": [{"value": "1"}]}, r"^spec\.worker\.env\[0\]\.name must be"),
        ({"volumeMounts": [{"name": "x"}]}, r"^spec\.worker\.volumeMounts\[0\]\.mountPath must be"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(worker, error):
    with pytest.raises(ValueError, match=error):
        _build(**worker)


# Words that lead somewhere, and values of every kind at every place.
_KEYS = hypothesis.strategies.sampled_from(
    ["metadata", "spec", "labels", "containers", "volumes", "env", "name", "finalizers", "$patch", "$retainKeys", "x"]
)
_WORDS = hypothesis.strategies.sampled_from(["worker", "replace", "delete", "imagetrain-scratch", "IMAGETRAIN_X", ""])
_JSON = hypothesis.strategies.recursive(
    hypothesis.strategies.none() | hypothesis.strategies.booleans() | hypothesis.strategies.integers(0, 2) | _WORDS,
    lambda inner: (
        hypothesis.strategies.lists(inner, max_size=3) | hypothesis.strategies.dictionaries(_KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)
_OBJECTS = hypothesis.strategies.lists(hypothesis.strategies.dictionaries(_KEYS, _JSON, max_size=3), max_size=3)
_LISTS = ("env", "volumes", "volumeMounts", "tolerations", "topologySpreadConstraints")


@hypothesis.given(
    patch=hypothesis.strategies.dictionaries(_KEYS, _JSON, max_size=3),
    lists=hypothesis.strategies.dictionaries(hypothesis.strategies.sampled_from(_LISTS), _OBJECTS, max_size=2),
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_setting_is_refused_by_field_or_gives_a_template(patch, lists):
    template, refusal = _try(podTemplate=patch, **lists)
    if template is None:
        assert refusal.startswith("spec.worker.")
    else:
        assert json.loads(json.dumps(template)) == template
        assert template["metadata"]["labels"]["imagetrain.dev/job"] == "fashion"
        assert "worker" in [container["name"] for container in template["spec"]["containers"]]


def _try(**worker):
    try:
        return _build(**worker), ""
    except ValueError as error:
        return None, str(error)
