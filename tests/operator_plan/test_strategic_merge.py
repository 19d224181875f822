import copy
import json
import pathlib
import subprocess

import pytest

from imagetrain_cluster import errors, tools
from imagetrain_operator.plan import strategic_merge

TEMPLATE = {
    "metadata": {"labels": {"app": "imagetrain", "team": "vision"}, "finalizers": ["example.com/a"]},
    "spec": {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "worker",
                "image": "trainer:1",
                "command": ["imagetrain-worker"],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
                "ports": [{"name": "metrics", "containerPort": 8080, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "2", "nvidia.com/gpu": "1"}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            }
        ],
        "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"},
        ],
    },
}


def _worker(**fields):
    return {"spec": {"containers": [{"name": "worker", **fields}]}}


def _expected(*changes):
    """Return the template with the value at each dotted path set; None takes the key away."""
    template = copy.deepcopy(TEMPLATE)
    for path, value in changes:
        *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        place = template
        for key in way:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return template


CONTAINERS = "spec.containers"
WORKER = "spec.containers.0"

# A patch, and what Kubernetes makes of the template with it.
CASES = {
    "nothing": ({}, _expected()),
    "a new field": ({"spec": {"hostNetwork": True}}, _expected(("spec.hostNetwork", True))),
    "a field with another value": ({"spec": {"restartPolicy": "Always"}}, _expected(("spec.restartPolicy", "Always"))),
    "null deletes a field": ({"spec": {"tolerations": None}}, _expected(("spec.tolerations", None))),
    "null deletes nothing where nothing is": ({"spec": {"affinity": None}}, _expected()),
    "null inside a new object": (
        {"spec": {"affinity": {"podAffinity": None, "nodeAffinity": {}}}},
        _expected(("spec.affinity", {"nodeAffinity": {}})),
    ),
    "objects are merged": (
        {"spec": {"securityContext": {"runAsUser": 7, "seccompProfile": {"localhostProfile": "x"}}}},
        _expected(
            (
                "spec.securityContext",
                {
                    "runAsNonRoot": True,
                    "runAsUser": 7,
                    "seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "x"},
                },
            )
        ),
    ),
    "labels are merged": (
        {"metadata": {"labels": {"team": None, "cost": "7"}}},
        _expected(("metadata.labels", {"app": "imagetrain", "cost": "7"})),
    ),
    "an object is replaced": (
        {"spec": {"securityContext": {"$patch": "replace", "runAsUser": 7}}},
        _expected(("spec.securityContext", {"runAsUser": 7})),
    ),
    "an object is deleted": (
        {"spec": {"securityContext": {"$patch": "delete"}}},
        _expected(("spec.securityContext", {})),
    ),
    "keys are retained": (
        {"spec": {"securityContext": {"$retainKeys": ["runAsUser", "runAsNonRoot"], "runAsUser": 7}}},
        _expected(("spec.securityContext", {"runAsNonRoot": True, "runAsUser": 7})),
    ),
    "a list without a merge key is replaced": (
        {"spec": {"tolerations": [{"key": "spot"}]}},
        _expected(("spec.tolerations", [{"key": "spot"}])),
    ),
    "a command is replaced": (_worker(command=["sh", "-c"]), _expected((f"{WORKER}.command", ["sh", "-c"]))),
    "limits are merged": (
        _worker(resources={"limits": {"memory": "1Gi", "nvidia.com/gpu": None}}),
        _expected((f"{WORKER}.resources.limits", {"cpu": "2", "memory": "1Gi"})),
    ),
    "a container is found by its name": (_worker(image="trainer:2"), _expected((f"{WORKER}.image", "trainer:2"))),
    "a new container comes first": (
        {"spec": {"containers": [{"name": "side", "image": "side:1"}]}},
        _expected((CONTAINERS, [{"name": "side", "image": "side:1"}, TEMPLATE["spec"]["containers"][0]])),
    ),
    "a new container after a known one": (
        {"spec": {"containers": [{"name": "worker"}, {"name": "side", "image": "side:1"}]}},
        _expected((CONTAINERS, [TEMPLATE["spec"]["containers"][0], {"name": "side", "image": "side:1"}])),
    ),
    "a list of containers where there was none": (
        {"spec": {"initContainers": [{"name": "fetch", "image": "fetch:1", "env": [{"name": "X", "value": "1"}]}]}},
        _expected(
            ("spec.initContainers", [{"name": "fetch", "image": "fetch:1", "env": [{"name": "X", "value": "1"}]}])
        ),
    ),
    "an empty list changes nothing": ({"spec": {"containers": [], "volumes": []}}, _expected()),
    "variables are merged by name": (
        _worker(env=[{"name": "B", "value": "two"}, {"name": "D", "value": "4"}]),
        _expected(
            (
                f"{WORKER}.env",
                [
                    {"name": "A", "value": "1"},  # it stood before B
                    {"name": "B", "value": "two"},
                    {"name": "D", "value": "4"},
                    {"name": "C", "value": "3"},
                ],
            )
        ),
    ),
    "variables in another order": (
        _worker(env=[{"name": "C"}, {"name": "A"}]),
        _expected(
            (
                f"{WORKER}.env",
                [{"name": "B", "value": "2"}, {"name": "C", "value": "3"}, {"name": "A", "value": "1"}],
            )
        ),
    ),
    "a variable gets another source": (
        _worker(env=[{"name": "A", "value": None, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]),
        _expected((f"{WORKER}.env.0", {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})),
    ),
    "a variable is deleted": (
        _worker(env=[{"name": "B", "$patch": "delete"}]),
        _expected((f"{WORKER}.env", [{"name": "A", "value": "1"}, {"name": "C", "value": "3"}])),
    ),
    "what is not there cannot be deleted": (_worker(env=[{"name": "Z", "$patch": "delete"}]), _expected()),
    "all variables are replaced": (
        _worker(env=[{"$patch": "replace"}, {"name": "Z", "value": "9"}]),
        _expected((f"{WORKER}.env", [{"name": "Z", "value": "9"}])),
    ),
    "all variables are deleted": (_worker(env=[{"$patch": "replace"}]), _expected((f"{WORKER}.env", []))),
    "ports are merged by their number": (
        _worker(ports=[{"containerPort": 8080, "name": "http"}, {"containerPort": 9090}]),
        _expected(
            (
                f"{WORKER}.ports",
                [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"containerPort": 9090}],
            )
        ),
    ),
    "mounts are merged by their path": (
        _worker(volumeMounts=[{"mountPath": "/scratch", "name": "disk"}, {"mountPath": "/data", "name": "data"}]),
        _expected(
            (
                f"{WORKER}.volumeMounts",
                [{"mountPath": "/scratch", "name": "disk"}, {"mountPath": "/data", "name": "data"}],
            )
        ),
    ),
    "volumes are merged by name": (
        {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}]}},
        _expected(
            ("spec.volumes", [{"name": "scratch", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}}])
        ),
    ),
    "a volume gets another source": (
        {"spec": {"volumes": [{"name": "tmp", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/t"}}]}},
        _expected(("spec.volumes", [{"name": "scratch", "emptyDir": {}}, {"name": "tmp", "hostPath": {"path": "/t"}}])),
    ),
    "pull secrets are merged by name": (
        {"spec": {"imagePullSecrets": [{"name": "other"}]}},
        _expected(("spec.imagePullSecrets", [{"name": "other"}, {"name": "registry"}])),
    ),
    "spread constraints are merged by their key": (
        {"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 2}]}},
        _expected(("spec.topologySpreadConstraints.0.maxSkew", 2)),
    ),
    "host aliases are merged by address": (
        {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["s3"]}]}},
        _expected(("spec.hostAliases", [{"ip": "10.0.0.1", "hostnames": ["s3"]}])),
    ),
    "plain values are united": (
        {"metadata": {"finalizers": ["example.com/b", "example.com/a"]}},
        _expected(("metadata.finalizers", ["example.com/b", "example.com/a"])),
    ),
    "everything is replaced": (
        {"$patch": "replace", "spec": {"containers": [{"name": "x", "image": "y"}]}},
        {"spec": {"containers": [{"name": "x", "image": "y"}]}},
    ),
}


@pytest.mark.parametrize(("patch", "expected"), CASES.values(), ids=CASES.keys())
def test_a_patch_is_merged(patch, expected):
    before = copy.deepcopy((TEMPLATE, patch))
    assert _normal(strategic_merge.merge(TEMPLATE, patch)) == _normal(expected)
    assert (TEMPLATE, patch) == before


@pytest.mark.parametrize(("patch", "expected"), CASES.values(), ids=CASES.keys())
def test_kubectl_merges_the_same(patch, expected, tmp_path):
    assert _normal(_patch_by_kubectl(patch, tmp_path)) == _normal(expected)


def _patch_by_kubectl(patch, folder: pathlib.Path):
    try:
        kubectl = tools.find("kubectl")
    except errors.ClusterError as error:
        pytest.skip(str(error))
    file = folder / "template.json"
    wrapped = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": TEMPLATE}
    file.write_text(json.dumps(wrapped))
    command = [kubectl, "patch", "--local", "-f", file, "--type=strategic", "-o=json", "-p"]
    done = subprocess.run(
        [*command, json.dumps({"template": patch})],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"KUBECONFIG": "/dev/null", "HOME": str(folder)},
    )
    return json.loads(done.stdout)["template"]


def _normal(value):
    """Return a value without what Go leaves out when it writes it: nulls and empty lists and objects in objects."""
    if isinstance(value, dict):
        items = {key: _normal(item) for key, item in value.items() if item is not None}
        kept = ("emptyDir", "nodeAffinity", "securityContext")  # pointers, which are written even when empty
        return {key: item for key, item in items.items() if item not in ([], {}) or key in kept}
    return [_normal(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("patch", "error"),
    [
        ({"spec": []}, r"patch\.spec must be an object, got \[\]\."),
        ({"spec": "x"}, r"patch\.spec must be an object, got 'x'\."),
        ({"metadata": {"labels": "x"}}, r"patch\.metadata\.labels must be an object, got 'x'\."),
        ({"metadata": {"annotations": []}}, r"patch\.metadata\.annotations must be an object"),
        ({"spec": {"containers": {"name": "worker"}}}, r"patch\.spec\.containers must be a list, got \{"),
        ({"spec": {"initContainers": {}}}, r"patch\.spec\.initContainers must be a list"),
        ({"spec": {"containers": ["worker"]}}, r"patch\.spec\.containers\[0\] must be an object, got 'worker'\."),
        ({"spec": {"containers": [{"image": "x"}]}}, r"containers\[0\]\.name must be given, for it tells"),
        ({"spec": {"containers": [{"name": {}}]}}, r"containers\[0\]\.name must be given"),
        (_worker(ports=[{"name": "x"}]), r"patch\.spec\.containers\[0\]\.ports\[0\]\.containerPort must be given"),
        (_worker(env=[{"name": "A"}, {"$patch": "delete"}]), r"containers\[0\]\.env\[1\]\.name must be given"),
        (_worker(env=[{"name": "A", "$patch": "merge"}]), r"env\[0\]\.\$patch must be replace or delete, got 'merge'"),
        (_worker(command="sh"), r"containers\[0\]\.command must be a list, got 'sh'"),
        (_worker(image=["x"]), r"containers\[0\]\.image must be a single value"),
        (_worker(image={"name": "x"}), r"containers\[0\]\.image must be a single value"),
        ({"spec": {"securityContext": 7}}, r"patch\.spec\.securityContext must be an object, got 7"),
        ({"spec": {"$patch": "merge"}}, r"patch\.spec\.\$patch must be replace or delete, got 'merge'"),
        ({"$patch": "replace", "spec": {"containers": "x"}}, r"patch\.spec\.containers must be a list"),
        ({"spec": {"$setElementOrder/containers": []}}, r"patch\.spec\.\$setElementOrder/containers must be left out"),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": []}}, r"\$deleteFromPrimitiveList/finalizers must be"),
        ({"metadata": {"finalizers": [{}]}}, r"patch\.metadata\.finalizers must be a list of single values"),
        ({"spec": {"$retainKeys": "x"}}, r"patch\.spec\.\$retainKeys must be a list that holds each key beside it"),
        ({"spec": {"$retainKeys": [], "nodeName": "x"}}, r"patch\.spec\.\$retainKeys must be a list that holds"),
    ],
)  # fmt: skip
def test_a_patch_that_does_not_fit_is_refused_by_field(patch, error):
    with pytest.raises(ValueError, match=error):
        strategic_merge.merge(TEMPLATE, patch)


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"initContainers": [{"name": "x", "image": None, "env": [{"name": "A", "$patch": "delete"}]}]}},
        {"spec": {"affinity": {"$patch": "delete"}}},
        {"spec": {"dnsConfig": {"options": [{"$patch": "delete"}, {"name": "a", "value": None}]}}},
    ],
)
def test_no_directive_and_no_null_stays_behind(patch):
    text = json.dumps(strategic_merge.merge(TEMPLATE, patch))
    assert "$patch" not in text
    assert "null" not in text
