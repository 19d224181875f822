"""A small asynchronous client of the API server for the benchmark's own programs."""

import base64
import pathlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import aiohttp
import orjson
import yaml

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_BUFFER_BYTES = 1 << 22


class AnswerError(Exception):
    """The API server refused a request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, what: str, status: int, answer: bytes) -> None:
        super().__init__(f"{what}: {status} {answer[:500].decode(errors='replace')}")
        self.status = status


class ApiClient:
    """Requests as the user of a kubeconfig file. The audit log tells the programs apart by `agent`."""

    def __init__(self, kubeconfig: pathlib.Path, *, agent: str, connections: int = 32) -> None:
        content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode("ascii")
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile(suffix=".pem") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        self._session = aiohttp.ClientSession(
            cluster["server"],
            headers={"User-Agent": agent},
            connector=aiohttp.TCPConnector(ssl=context, limit=connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=_BUFFER_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, body: object = None, *, kind: str = JSON, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            AnswerError: the API server refused it.
        """
        data = None if body is None else orjson.dumps(body)
        async with self._session.request(
            method, path, data=data, params=params, headers={"Content-Type": kind}
        ) as response:
            answer = await response.read()
            if response.status >= 400:
                raise AnswerError(f"{method} {path}", response.status, answer)
            parsed: dict[str, Any] = orjson.loads(answer)
            return parsed

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield (type, object) of each event until the API server ends the stream.

        Raises:
            AnswerError: the watch was refused, or an error event came.
        """
        query = {**params, "watch": "1", "timeoutSeconds": "3000"}
        async with self._session.get(path, params=query) as response:
            if response.status >= 400:
                raise AnswerError(f"watch {path}", response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise AnswerError(f"watch {path}", event["object"].get("code", 0), line)
                    yield event["type"], event["object"]
