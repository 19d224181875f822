"""What runs as pods in every cluster or on demand: names (CoreDNS), and an S3 server (versitygw)."""

import base64
import dataclasses
import pathlib
import secrets
from typing import Any

from imagetrain_cluster import access, errors, images, network, tools

FIRST_NODE = "n1"
"""Add-ons run here, and services are reached from outside the nodes through here: tests kill the others."""

S3_NAMESPACE = "s3"
S3_PORT = 7070
S3_HOST = f"s3.{S3_NAMESPACE}.svc.cluster.local"
S3_REGION = "us-east-1"
S3_SECRET = "s3-root"

READY_TIMEOUT_SECONDS = 60

_TOOLS_MOUNT = "/tools"
_COREFILE = """\
.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 1
    }
    cache 1 {
        denial 100 1
    }
}
"""
"""Names of pods that were replaced are known within a second."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """The S3 server in the cluster."""

    local_endpoint_url: str
    """For processes of the machine."""
    buckets: pathlib.Path
    """The folder of its buckets, on the machine: a test may damage objects directly."""
    access_key: str
    secret_key: str = dataclasses.field(repr=False)
    endpoint_url: str = f"http://{S3_HOST}:{S3_PORT}"
    """For pods, and processes in the client namespace."""
    region: str = S3_REGION


def build_base() -> list[dict[str, Any]]:
    """Return the objects of every cluster with nodes."""
    return [_build_proxy_binding(), *_build_dns()]


def _build_proxy_binding() -> dict[str, Any]:
    return _build_cluster_role_binding(
        "node-proxier", {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "system:kube-proxy"}
    )


def _build_dns() -> list[dict[str, Any]]:
    in_system = {"namespace": "kube-system"}
    name = {"name": "coredns", **in_system}
    labels = {"k8s-app": "kube-dns"}
    ports: list[dict[str, Any]] = [
        {"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")
    ]
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    container = {
        "name": "coredns",
        "image": images.BUSYBOX,
        "command": [f"{_TOOLS_MOUNT}/coredns", "-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [_tools_mount(), {"name": "configuration", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [_tools_volume("coredns"), {"name": "configuration", "configMap": {"name": "coredns"}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": rules,
        },
        _build_cluster_role_binding("coredns", {"kind": "ServiceAccount", **name}),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"Corefile": _COREFILE}},
        _build_deployment(name, labels, pod),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", **in_system},
            "spec": {"clusterIP": network.DNS_ADDRESS, "selector": labels, "ports": ports},
        },
    ]


def start_s3(cluster: access.Access) -> dict[str, str]:
    """Start the S3 server unless it is there, wait until it serves, and return its keys."""
    if cluster.get("namespace", S3_NAMESPACE) is None:
        cluster.apply(*build_s3())
    cluster.wait_for_deployment(S3_NAMESPACE, "s3", timeout_seconds=READY_TIMEOUT_SECONDS)
    secret = cluster.get("secret", S3_SECRET, namespace=S3_NAMESPACE)
    if secret is None:
        raise errors.ClusterError(f"The secret {S3_NAMESPACE}/{S3_SECRET} must exist beside its server.")
    keys = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    return {"access_key": keys["ROOT_ACCESS_KEY_ID"], "secret_key": keys["ROOT_SECRET_ACCESS_KEY"]}


def build_s3() -> list[dict[str, Any]]:
    """Return an S3 server with fresh keys. Its buckets live as long as its pod."""
    name = {"name": "s3", "namespace": S3_NAMESPACE}
    labels = {"app": "s3"}
    keys = {"ROOT_ACCESS_KEY_ID": "root-user", "ROOT_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    server = f"{_TOOLS_MOUNT}/versitygw --port :{S3_PORT} --region {S3_REGION} --quiet --iam-dir /data/iam"
    command = f"mkdir -p /data/iam /data/sidecar /data/buckets && exec {server} --iam-cache-disable posix"
    container = {
        "name": "versitygw",
        "image": images.BUSYBOX,
        "command": ["/bin/sh", "-c", f"{command} --sidecar /data/sidecar /data/buckets"],
        "envFrom": [{"secretRef": {"name": S3_SECRET}}],
        "readinessProbe": {"tcpSocket": {"port": S3_PORT}, "periodSeconds": 1},
        "volumeMounts": [_tools_mount(), {"name": "data", "mountPath": "/data"}],
    }
    pod = {"containers": [container], "volumes": [_tools_volume("versitygw"), {"name": "data", "emptyDir": {}}]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": S3_NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": S3_SECRET, "namespace": S3_NAMESPACE},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()},
        },
        _build_deployment(name, labels, pod),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": name,
            "spec": {"selector": labels, "ports": [{"port": S3_PORT}]},
        },
    ]


def _build_deployment(name: dict[str, str], labels: dict[str, str], pod: dict[str, Any]) -> dict[str, Any]:
    """Return a deployment of one pod on the first node, which ends at once when it is told to."""
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": FIRST_NODE},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        **pod,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": name,
        "spec": {
            "selector": {"matchLabels": labels},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def _build_cluster_role_binding(role: str, subject: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"imagetrain-{role}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"system:{role}"},
        "subjects": [subject],
    }


def _tools_volume(program: str) -> dict[str, Any]:
    """Return a volume of the folder that a statically linked program lies in: no image holds it."""
    return {"name": "tools", "hostPath": {"path": str(tools.find(program).parent), "type": "Directory"}}


def _tools_mount() -> dict[str, Any]:
    return {"name": "tools", "mountPath": _TOOLS_MOUNT, "readOnly": True}
