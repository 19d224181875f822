"""A plain client of a Kubernetes API server: JSON in, JSON out, over one connection."""

import base64
import dataclasses
import http.client
import json
import pathlib
import re
import ssl
import tempfile
import types
import urllib.parse
from typing import Any, Self

import yaml

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


def jobs_path(namespace: str, name: str = "") -> str:
    """Return the path of a namespace's ImageTrainingJobs, or of one of them."""
    return f"/apis/{names.API_VERSION}/namespaces/{namespace}/{names.PLURAL}" + (f"/{name}" if name else "")


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._connection.close()

    def apply(self, collection: str, document: dict[str, Any]) -> Answer:
        """Apply an object on the server's side.

        Raises:
            AssertionError: the API server refused it.
        """
        path = f"{collection}/{document['metadata']['name']}?fieldManager=tests&force=true&fieldValidation=Strict"
        answer = self.request("PATCH", path, document, content_type="application/apply-patch+yaml")
        assert answer.is_accepted, answer.message
        return answer

    def request(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> Answer:
        """Send a request; what is no JSON, such as NaN, is sent as Python writes it."""
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, path, data, {"Content-Type": content_type, "Accept": "application/json"})
        response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))
