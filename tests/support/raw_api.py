"""A plain client of a Kubernetes API server: JSON in, JSON out, over one connection, for hundreds of requests."""

import base64
import dataclasses
import http.client
import json
import pathlib
import re
import ssl
import tempfile
import urllib.parse
from typing import Any

import yaml

import job_tables
from imagetrain_api import names


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said."""

    status: int
    body: dict[str, Any]

    @property
    def is_accepted(self) -> bool:
        """Whether the request succeeded."""
        return self.status < 300

    @property
    def message(self) -> str:
        """The error in words."""
        return str(self.body.get("message", ""))

    @property
    def fields(self) -> list[str]:
        """The fields that the error names, in order."""
        causes = self.body.get("details", {}).get("causes", [])
        named = [cause["field"] for cause in causes if cause.get("field", "<nil>") != "<nil>"]
        return named + re.findall(r'unknown field "([^"]+)"', self.message)


def jobs_path(name: str = "") -> str:
    """Return the path of the ImageTrainingJobs, or of one of them."""
    return f"/apis/{names.API_VERSION}/namespaces/{job_tables.NAMESPACE}/{names.PLURAL}" + (f"/{name}" if name else "")


def as_sent(value: Any) -> Any:
    """Return what kubectl makes of a value: 2.0 becomes 2."""
    if isinstance(value, dict):
        return {key: as_sent(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_sent(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class RawApi:
    """A connection, as the user of a kubeconfig with a client certificate."""

    def __init__(self, kubeconfig: pathlib.Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.TemporaryDirectory() as folder:
            pair = pathlib.Path(folder, "pair.pem")
            pair.touch(mode=0o600)
            pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("key", "certificate")))
            context.load_cert_chain(pair)
        address = urllib.parse.urlsplit(cluster["server"])
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=context, timeout=30
        )

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def create(self, manifest: dict[str, Any], *, dry_run: bool = True) -> Answer:
        """Create a job as kubectl does."""
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.request("POST", jobs_path() + query, as_sent(manifest))

    def request(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Answer:
        """Send a request of a media type; what is no JSON, such as NaN, is sent as Python writes it."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": kind, "Accept": "application/json"}
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
        except (http.client.HTTPException, ConnectionError, BrokenPipeError):  # an idle connection was closed
            self._connection.close()
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))
