"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and the relay by which the machine reaches them."""

import collections.abc
import http.client
import json
import pathlib
import signal
import socket
import ssl
import sys

from imagetrain_cluster import errors, kubeconfig, network, tools, wait, workspace

API_PORT = 6443
SERVER = f"https://{network.CONTROL_PLANE_ADDRESS}:{API_PORT}"
"""The API server as everything inside the cluster reaches it."""

START_TIMEOUT_SECONDS = 60.0
"""3 s on two idle cores."""

NODE_GRACE_SECONDS = 12
"""A node silent for this long is NotReady (Kubernetes' default is 50 s). kubelet renews its lease every 2 s."""

_ETCD = "http://127.0.0.1:2379"
_ETCD_PEER = "http://127.0.0.1:2380"
_COMPONENTS = ("kube-controller-manager", "kube-scheduler")
_API_RELAY = "relay-api"


class ControlPlane:
    """Starts and ends the control plane of one cluster."""

    def __init__(self, space: workspace.Workspace) -> None:
        self._space = space

    def start(self) -> None:
        """Start everything and wait until the API server serves; the two controllers only then."""
        space = self._space
        self._write_audit_policy()
        self._start_relay()
        space.start(
            "etcd",
            [
                tools.find("etcd"),
                f"--data-dir={space.folder / 'etcd'}",
                "--unsafe-no-fsync",  # the data need not outlive the machine
                f"--listen-client-urls={_ETCD}",
                f"--advertise-client-urls={_ETCD}",
                f"--listen-peer-urls={_ETCD_PEER}",
                f"--initial-advertise-peer-urls={_ETCD_PEER}",
                f"--initial-cluster=default={_ETCD_PEER}",
            ],
            namespace=space.network.control_plane,
        )
        self.start_api_server()
        self._start_controllers()
        # Pods are refused until the controller manager has made the account that they run as.
        wait.until(
            lambda: self._status("/api/v1/namespaces/default/serviceaccounts/default") == http.HTTPStatus.OK,
            timeout_seconds=START_TIMEOUT_SECONDS,
            what="the making of the service account default/default",
        )

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        space = self._space
        space.start("kube-apiserver", self._api_server_arguments(), namespace=space.network.control_plane)

        def is_ready() -> bool:
            if not space.is_running("kube-apiserver"):
                raise errors.ClusterError(f"kube-apiserver ended at once:\n{space.log_tail('kube-apiserver')}")
            return self._status("/readyz") == http.HTTPStatus.OK

        wait.until(is_ready, timeout_seconds=START_TIMEOUT_SECONDS, what="the start of kube-apiserver")

    def stop_api_server(self) -> None:
        """Kill the API server, as a crash does (SIGTERM would wait for every open watch). Addresses stay the same."""
        self._space.stop("kube-apiserver", by=signal.SIGKILL)

    def _start_relay(self) -> None:
        port = start_relay(self._space, _API_RELAY, network.CONTROL_PLANE_ADDRESS, API_PORT)
        self._write_kubeconfig(self._space.kubeconfig, user="admin", server=f"https://127.0.0.1:{port}")
        self._write_kubeconfig(self._space.client_kubeconfig, user="admin", server=SERVER)
        for component in (*_COMPONENTS, "kube-proxy"):
            self._write_kubeconfig(component_kubeconfig(self._space, component), user=component, server=SERVER)

    def _write_kubeconfig(self, path: pathlib.Path, *, user: str, server: str) -> None:
        kubeconfig.write(path, kubeconfig.build(self._space.certificates, user=user, server=server))

    def _api_server_arguments(self) -> list[str | pathlib.Path]:
        pki = self._space.certificates
        return [
            tools.find("kube-apiserver"),
            f"--etcd-servers={_ETCD}",
            f"--bind-address={network.CONTROL_PLANE_ADDRESS}",
            f"--advertise-address={network.CONTROL_PLANE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--service-cluster-ip-range={network.SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
            f"--tls-cert-file={pki.certificate('apiserver')}",
            f"--tls-private-key-file={pki.key('apiserver')}",
            f"--client-ca-file={pki.certificate('ca')}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki.path / 'service-account.pub'}",
            f"--service-account-signing-key-file={pki.key('service-account')}",
            f"--kubelet-client-certificate={pki.certificate('apiserver-kubelet')}",
            f"--kubelet-client-key={pki.key('apiserver-kubelet')}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={pki.certificate('front-proxy-ca')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={pki.certificate('front-proxy-client')}",
            f"--proxy-client-key-file={pki.key('front-proxy-client')}",
            *self._added("kube-apiserver"),
        ]

    def _start_controllers(self) -> None:
        space, pki = self._space, self._space.certificates
        own: dict[str, list[str]] = {
            "kube-controller-manager": [
                "--use-service-account-credentials",
                f"--root-ca-file={pki.certificate('ca')}",
                f"--service-account-private-key-file={pki.key('service-account')}",
                f"--cluster-signing-cert-file={pki.certificate('ca')}",
                f"--cluster-signing-key-file={pki.key('ca')}",
                "--allocate-node-cidrs=false",
                f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
                "--node-monitor-period=2s",
                # A claim and its volume are bound by events; this only shortens the wait after one was missed.
                "--pvclaimbinder-sync-period=2s",
            ],
            "kube-scheduler": [],
        }
        for component in _COMPONENTS:
            access = component_kubeconfig(space, component)
            arguments: list[str | pathlib.Path] = [
                tools.find(component),
                f"--kubeconfig={access}",
                f"--authentication-kubeconfig={access}",
                f"--authorization-kubeconfig={access}",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                # The defaults (20 and 50 a second) delay the controllers' own start by 4 s, a burst of jobs by more.
                "--kube-api-qps=1000",
                "--kube-api-burst=1000",
                *own[component],
                *self._added(component),
            ]
            space.start(component, arguments, namespace=space.network.control_plane)

    def _added(self, component: str) -> collections.abc.Sequence[str]:
        return self._space.record.read().arguments.get(component, [])

    def _write_audit_policy(self) -> None:
        """Write a policy that logs each request once, without bodies; only `--audit-*` arguments make use of it."""
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        }
        audit_policy(self._space).write_text(json.dumps(policy), encoding="utf-8")

    def _status(self, path: str) -> int:
        """Return the API server's answer to GET, 0 while there is none."""
        pki = self._space.certificates
        context = ssl.create_default_context(cafile=pki.certificate("ca"))
        context.load_cert_chain(pki.certificate("admin"), pki.key("admin"))
        port = self._space.record.read().ports[f"{network.CONTROL_PLANE_ADDRESS}:{API_PORT}"]
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def component_kubeconfig(space: workspace.Workspace, component: str) -> pathlib.Path:
    """Return the kubeconfig of a component."""
    return space.folder / f"kubeconfig.{component}"


def audit_policy(space: workspace.Workspace) -> pathlib.Path:
    """Return the audit policy file."""
    return space.folder / "audit-policy.json"


def audit_log(space: workspace.Workspace) -> pathlib.Path:
    """Return the audit log: one JSON object a line and request."""
    return space.logs / "audit.jsonl"


def client_command(
    space: workspace.Workspace, arguments: collections.abc.Sequence[str | pathlib.Path]
) -> list[str | pathlib.Path]:
    """Return a command wrapped so that it resolves names as pods do; to be run in the client network namespace."""
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return [tools.find("unshare"), "--mount", "--", "/bin/sh", "-c", script, space.resolver, *arguments]


def start_relay(space: workspace.Workspace, name: str, host: str, port: int) -> int:
    """Start a relay from a free loopback port of the machine to `host:port` in the cluster, and return that port."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        local_port: int = listener.getsockname()[1]
        program = pathlib.Path(__file__).with_name("relay.py")
        # -I: the caller's folder and environment have no say in what is imported; -S starts in half the time.
        arguments: list[str | pathlib.Path]
        arguments = [sys.executable, "-I", "-S", program, str(listener.fileno()), host, str(port)]
        space.start(name, client_command(space, arguments), namespace=space.network.client, inherit=[listener.fileno()])
    with space.record.change() as state:
        state.ports[f"{host}:{port}"] = local_port
    return local_port
