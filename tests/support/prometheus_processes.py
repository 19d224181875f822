"""A real Prometheus beside the cluster: it finds pods through the Kubernetes API with a ServiceAccount's rights."""

import base64
import collections.abc
import functools
import json
import pathlib
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import yaml

from imagetrain_cluster import cluster as cluster_module
from imagetrain_cluster import tools, wait

ACCOUNT = "prometheus"
PORT = 9090  # in the client namespace, where nothing else listens there
REFERENCE = tools.CHECKOUT / "docs" / "metrics.md"
START_TIMEOUT_SECONDS = 30
SCRAPE_TIMEOUT_SECONDS = 1

Series = dict[str, Any]


def documented_block(first_key: str) -> str:
    """Return the YAML in docs/metrics.md that begins with a key, as users copy it."""
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if block.startswith(f"{first_key}:"))


def build_account(namespace: str) -> tuple[dict[str, Any], ...]:
    """Return a ServiceAccount that may look at the pods of its namespace, and at nothing else."""
    name = {"name": ACCOUNT, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": name},
        {
            "apiVersion": f"{group}/v1",
            "kind": "Role",
            "metadata": name,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
    )


class Prometheus:
    """One Prometheus that scrapes a namespace's pods and the operator every second.

    Args:
        cluster: the cluster.
        folder: for its data, its configuration and its log.
        namespace: where it looks for pods.
        operator_address: host and port of an operator, as the client namespace reaches it.
    """

    def __init__(
        self, cluster: cluster_module.Cluster, folder: pathlib.Path, namespace: str, operator_address: str
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._log = folder / "prometheus.log"
        cluster.apply(*build_account(namespace))
        self.configuration = folder / "prometheus.yml"
        self.configuration.write_text(yaml.safe_dump(self._build_configuration(namespace, operator_address)))
        self._process = self._start()
        self._url = f"http://127.0.0.1:{cluster.forward('127.0.0.1', PORT)}"
        wait.until(self._is_ready, timeout_seconds=START_TIMEOUT_SECONDS, what=f"Prometheus' start (see {self._log})")

    def _build_configuration(self, namespace: str, operator_address: str) -> dict[str, Any]:
        """Return the documented configuration, with what it takes to reach the API server from outside of a pod."""
        kubeconfig = yaml.safe_load(self._cluster.client_kubeconfig.read_text())["clusters"][0]["cluster"]
        authority, token = self._folder / "ca.crt", self._folder / "token"
        authority.write_bytes(base64.b64decode(kubeconfig["certificate-authority-data"]))
        token.touch(mode=0o600)
        token.write_text(self._cluster.kubectl("create", "token", ACCOUNT, f"--namespace={namespace}").strip())
        configuration: dict[str, Any] = yaml.safe_load(documented_block("scrape_configs"))
        (pods,) = configuration["scrape_configs"]
        pods["kubernetes_sd_configs"] = [
            {
                **pods["kubernetes_sd_configs"][0],
                "api_server": kubeconfig["server"],
                "authorization": {"credentials_file": str(token)},
                "tls_config": {"ca_file": str(authority)},
                "namespaces": {"names": [namespace]},
            }
        ]
        operator = {"job_name": "operator", "honor_labels": True, "static_configs": [{"targets": [operator_address]}]}
        return {
            "global": {"scrape_interval": "1s", "scrape_timeout": f"{SCRAPE_TIMEOUT_SECONDS}s"},
            "scrape_configs": [pods, operator],
        }

    def _start(self) -> "subprocess.Popen[str]":
        with self._log.open("w") as log:
            return self._cluster.popen(
                [
                    tools.find("prometheus"),
                    f"--config.file={self.configuration}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{PORT}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str, *, at: float | None = None) -> list[Series]:
        """Return the series of an instant query; `at` is a Unix time, now unless given.

        Raises:
            AssertionError: Prometheus does not understand it.
        """
        parameters = urllib.parse.urlencode({"query": expression, **({} if at is None else {"time": f"{at:.3f}"})})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{parameters}", timeout=10) as answer:
                found: list[Series] = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        return found

    def value(self, expression: str, *, at: float | None = None) -> float:
        """Return the value of an expression that gives one series."""
        found = self.query(expression, at=at)
        assert len(found) == 1, f"{expression}: {found}"
        return float(found[0]["value"][1])

    def samples(self, selector: str, *, seconds: int) -> list[tuple[float, float]]:
        """Return the raw samples of one series, oldest first: Unix time of the scrape and value."""
        found = self.query(f"{selector}[{seconds}s]")
        assert len(found) == 1, f"{selector}: {found}"
        return [(float(at), float(value)) for at, value in found[0]["values"]]

    def wait_for(self, expression: str, *, seconds: float) -> list[Series]:
        """Wait until an expression gives something."""
        query = functools.partial(self.query, expression)
        return wait.until(query, timeout_seconds=seconds, what=f"an answer to {expression} (see {self._log})")

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)


def check(kind: collections.abc.Sequence[str], text: str) -> str:
    """Put a text to promtool, Prometheus' own checks, and return what it complains of."""
    result = subprocess.run(
        [tools.find("promtool"), "check", *kind], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr
