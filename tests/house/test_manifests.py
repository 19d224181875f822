"""The install objects of manifests/: least rights, restricted pods, and accepted by a real API server."""

import json
import pathlib
import shutil
import time
from typing import Any

import pytest
import yaml

from imagetrain_cluster import access, errors
from imagetrain_operator import main

ROOT = pathlib.Path(__file__).parents[2] / "manifests"
OVERLAYS = ("overlays/cluster-wide", "overlays/one-namespace", "crd")
ROLES = ("Role", "ClusterRole")
NODE_NOTICES = "components/node-notices"


def read(folder: str) -> list[dict[str, Any]]:
    documents = [
        document
        for path in sorted((ROOT / folder).rglob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]
    return [document for document in documents if document["kind"] not in ("Kustomization", "Component")]


def rules(folder: str, name: str = "imagetrain-operator") -> list[dict[str, Any]]:
    roles = [each for each in read(folder) if each["kind"] in ROLES and each["metadata"]["name"] == name]
    return [rule for role in roles for rule in role["rules"]]


def build(api: access.Access, folder: str | pathlib.Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(api.kubectl("kustomize", str(ROOT / folder))))


def build_with_node_notices(api: access.Access, folder: pathlib.Path, overlay: str) -> list[dict[str, Any]]:
    """Return the objects of an overlay of one's own, as manifests/README.md has it."""
    shutil.copytree(ROOT, folder / "imagetrain" / "manifests")
    own = folder / "own"
    own.mkdir()
    lines = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../imagetrain/manifests/{overlay}"],
        "components": [f"../imagetrain/manifests/{NODE_NOTICES}"],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(lines))
    return build(api, own)


def moved(documents: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """Return the objects as they are in another namespace."""
    text = json.dumps([document for document in documents if document["kind"] != "Namespace"])
    for name in ("imagetrain-system", "imagetrain"):
        text = text.replace(f'"namespace": "{name}"', f'"namespace": "{namespace}"')
    return list(json.loads(text))


def test_no_rule_has_an_asterisk_and_none_names_secrets() -> None:
    of_nodes = rules(NODE_NOTICES, "imagetrain-operator-node-notices")
    assert of_nodes == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]
    all_rules = [rule for each in read(".") if each["kind"] in ROLES for rule in each["rules"]]
    assert len(all_rules) > len(of_nodes)
    for rule in all_rules:
        words = {word for key in ("apiGroups", "resources", "verbs") for word in rule[key]}
        forbidden = {"*", "secrets", "configmaps", "nodes", "pods/exec", "pods/log", "escalate", "bind"}
        assert not words & (forbidden - {"nodes"} if rule in of_nodes else forbidden), rule
        assert not any("/" in group for group in rule["apiGroups"]), f"an API group carries no version: {rule}"


def test_operator_has_the_same_rights_in_one_namespace_as_in_all() -> None:
    assert rules("overlays/one-namespace") == rules("overlays/cluster-wide")


def test_lease_rights_are_held_in_the_operators_own_namespace_alone() -> None:
    roles = [each for each in read("overlays/cluster-wide") if "leases" in json.dumps(each)]
    assert [each["kind"] for each in roles] == ["Role"]


def test_one_namespace_install_has_nothing_of_the_whole_cluster(kubernetes_api: access.Access) -> None:
    documents = build(kubernetes_api, "overlays/one-namespace")
    assert {each["metadata"].get("namespace") for each in documents} == {"imagetrain"}
    assert {each["kind"] for each in documents} == {"ServiceAccount", "Role", "RoleBinding", "Deployment"}


@pytest.mark.parametrize(
    ("overlay", "namespace"), [("overlays/cluster-wide", "imagetrain-system"), ("overlays/one-namespace", "imagetrain")]
)
def test_component_gives_the_operator_of_its_overlay_a_right_on_nodes_and_the_taints(
    kubernetes_api: access.Access,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    overlay: str,
    namespace: str,
) -> None:
    documents = build_with_node_notices(kubernetes_api, tmp_path, overlay)
    plain = build(kubernetes_api, overlay)
    role, binding = (each for each in documents if each["metadata"]["name"].startswith("imagetrain-operator-node-"))
    assert len(documents) == len(plain) + 2
    assert (role["kind"], role["rules"]) == ("ClusterRole", rules(NODE_NOTICES, role["metadata"]["name"]))
    assert binding["metadata"]["name"] == f"imagetrain-operator-node-notices.{namespace}"  # one for each operator
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "imagetrain-operator", "namespace": namespace},
    ]
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (variable,) = (each for each in container["env"] if "NODE_NOTICE" in each["name"])
    monkeypatch.setenv(variable["name"], variable["value"])
    context = main.main.make_context("imagetrain-operator", ["--all-namespaces"])
    chosen: tuple[str, ...] = context.params["node_notice_taints"]
    assert "aws-node-termination-handler/spot-itn" in chosen
    assert len(chosen) == len(set(chosen)) == 6
    kubernetes_api.kubectl(
        "apply", "--server-side", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump_all([role, binding])
    )


@pytest.mark.parametrize("folder", OVERLAYS)
def test_every_object_is_accepted_by_the_api_server(
    kubernetes_api: access.Access, plain_namespace: str, folder: str
) -> None:
    documents = moved(build(kubernetes_api, folder), plain_namespace)
    stream = yaml.safe_dump_all(documents)
    printed = kubernetes_api.kubectl("apply", "--server-side", "--dry-run=server", "--filename=-", stdin=stream)
    assert len(printed.splitlines()) == len(documents)


def test_namespace_of_the_operator_is_accepted_and_restricted(kubernetes_api: access.Access) -> None:
    (namespace,) = (each for each in build(kubernetes_api, "overlays/cluster-wide") if each["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    kubernetes_api.kubectl(
        "apply", "--server-side", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(namespace)
    )


@pytest.mark.parametrize("folder", OVERLAYS[:2])
def test_operators_pod_satisfies_restricted(kubernetes_api: access.Access, plain_namespace: str, folder: str) -> None:
    kubernetes_api.kubectl("label", "namespace", plain_namespace, "pod-security.kubernetes.io/enforce=restricted")
    (deployment,) = (each for each in build(kubernetes_api, folder) if each["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"] | {"serviceAccountName": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": spec}
    arguments = ("create", "--dry-run=server", "--filename=-", f"--namespace={plain_namespace}")
    kubernetes_api.kubectl(*arguments, stdin=yaml.safe_dump(pod))
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(errors.ClusterError, match='violates PodSecurity "restricted'):
        kubernetes_api.kubectl(*arguments, stdin=yaml.safe_dump(pod))


@pytest.mark.parametrize("folder", OVERLAYS[:2])
@pytest.mark.parametrize("has_notices", [False, True], ids=["alone", "with node notices"])
def test_every_variable_of_the_deployment_is_an_option(
    kubernetes_api: access.Access,
    tmp_path: pathlib.Path,
    folder: str,
    has_notices: bool,  # noqa: FBT001
) -> None:
    if has_notices:
        documents = build_with_node_notices(kubernetes_api, tmp_path, folder)
    else:
        documents = build(kubernetes_api, folder)
    (deployment,) = (each for each in documents if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    options = {f"IMAGETRAIN_OPERATOR_{option.name.upper()}" for option in main.main.params if option.name}
    assert {variable["name"] for variable in container["env"]} <= options
    assert {port["containerPort"] for port in container["ports"]} == {8080}


@pytest.mark.parametrize(
    ("role", "verbs"),
    [("edit", {"create", "delete", "get", "list", "patch", "update", "watch"}), ("view", {"get", "list", "watch"})],
)
def test_users_of_a_namespace_may_do_with_jobs_what_they_may_do_with_the_rest(
    kubernetes_api: access.Access, plain_namespace: str, role: str, verbs: set[str]
) -> None:
    kubernetes_api.kubectl("apply", "--server-side", "--kustomize", str(ROOT / "crd"))
    where = f"--namespace={plain_namespace}"
    kubernetes_api.kubectl("create", "rolebinding", "team", f"--clusterrole={role}", "--user=ann", where)

    def allowed(*options: str) -> set[str]:
        asked = ("create", "delete", "get", "list", "patch", "update", "watch")
        ask = ("auth", "can-i", "--as=ann", where, *options)
        kind = "imagetrainingjobs"
        return {verb for verb in asked if kubernetes_api.kubectl(*ask, verb, kind, check=False).strip() == "yes"}

    deadline = time.monotonic() + 20
    while allowed() != verbs:  # a controller adds up the aggregated roles
        assert time.monotonic() < deadline, allowed()
    assert allowed("--subresource=status") <= {"get", "list", "watch"}
