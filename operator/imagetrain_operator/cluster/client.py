"""A small asynchronous client of the API server: JSON in, JSON out, errors translated, requests counted.

The `kubernetes` package is not used here: its generated models alone take 40 MB and it blocks a thread per request.
Kubeconfig and ServiceAccount are read by kopf, which needs the same connection.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

import aiohttp
import kopf
import orjson

from imagetrain_operator.cluster import errors

logger = logging.getLogger(__name__)

JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
LIST_CHUNK = 500  # Kubernetes, "Retrieving large results sets in chunks"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
REQUEST_TIMEOUT_SECONDS = 30.0
# Bookmarks come once a minute (Kubernetes, "Watch bookmarks"); a stream that is silent for longer is dead.
WATCH_SILENCE_SECONDS = 75.0
_MAX_CONNECTIONS = 32
_TLS_CLOSE_SECONDS = 0.05  # aiohttp, "Graceful Shutdown": TLS connections end some turns of the loop after the session
_MAX_ERROR_CHARACTERS = 2000

CountRequest = Callable[[str, str], None]  # verb, HTTP status ("0": no answer)


def read_connection(settings: kopf.OperatorSettings) -> kopf.ConnectionInfo:
    """Return the connection of the pod's ServiceAccount, or else of $KUBECONFIG or ~/.kube/config.

    Raises:
        UnavailableError: there is neither.
    """
    connection = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if connection is None:
        raise errors.UnavailableError("no cluster: this is no pod, and neither KUBECONFIG nor ~/.kube/config is there")
    return connection


class ApiClient:
    """Requests to one API server over kept connections.

    Args:
        login: returns the connection; called again when its token was refused or is an hour old.
        count_request: told of every request.
    """

    def __init__(self, login: Callable[[], kopf.ConnectionInfo], count_request: CountRequest) -> None:
        self._login = login
        self._count_request = count_request
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}
        self._server = ""

    async def __aenter__(self) -> Self:
        connection = self._login()
        self._server = connection.server.rstrip("/")
        self._headers = connection.as_http_headers()
        context = await asyncio.get_running_loop().run_in_executor(None, _ssl_context, connection)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=_MAX_CONNECTIONS, keepalive_timeout=120),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(_TLS_CLOSE_SECONDS)

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Read an object or a list."""
        return await self._request("GET", path, None, JSON, params)

    async def list_metadata(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the metadata of every object of a collection."""
        params = {"limit": str(LIST_CHUNK)}
        while True:
            async with self._open("GET", path, None, JSON, params, accept=METADATA_LIST) as response:
                page = orjson.loads(await response.read())
            for item in page.get("items") or ():
                yield item
            if not (token := page["metadata"].get("continue")):
                return
            params = {**params, "continue": token}

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object below a collection's path; a key that the server does not know is refused, not dropped."""
        return await self._request("POST", path, body, JSON, {"fieldValidation": "Strict"})

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object; its resourceVersion must be the newest."""
        return await self._request("PUT", path, body, JSON, None)

    async def merge_patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change some keys of an object (RFC 7386)."""
        return await self._request("PATCH", path, body, MERGE_PATCH, None)

    async def strategic_patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object of a kind that Kubernetes itself defines; items of its lists are merged by their keys."""
        return await self._request("PATCH", path, body, STRATEGIC_PATCH, None)

    async def delete(self, path: str, uid: str, *, by_force: bool = False) -> dict[str, Any]:
        """Delete an object and, in the background, what it owns, unless it is another one than `uid`.

        By force, a pod goes without its node's word that it has ended; else the answer is the pod in its grace period.
        """
        body: dict[str, object] = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        if by_force:
            body["gracePeriodSeconds"] = 0
        return await self._request("DELETE", path, body, JSON, None)

    async def watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield watch events until the server ends the stream.

        Raises:
            ExpiredError: the resource version is too old.
            UnavailableError: the stream broke, or was silent for longer than a bookmark takes.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH_SILENCE_SECONDS)
        query = {**params, "watch": "1", "allowWatchBookmarks": "true"}
        async with self._open("GET", path, None, JSON, query, time_limit=timeout) as response:
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    yield _parse_event(line)

    async def _request(
        self, verb: str, path: str, body: Mapping[str, Any] | None, kind: str, params: Mapping[str, str] | None
    ) -> dict[str, Any]:
        async with self._open(verb, path, body, kind, params) as response:
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    @contextlib.asynccontextmanager
    async def _open(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None,
        kind: str,
        params: Mapping[str, str] | None,
        *,
        accept: str = JSON,
        time_limit: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        code = "0"
        try:
            async with self._session.request(
                verb,
                self._server + path,
                data=None if body is None else orjson.dumps(body),
                params=params,
                headers={**self._headers, "Content-Type": kind, "Accept": accept},
                timeout=time_limit or self._session.timeout,
            ) as response:
                code = str(response.status)
                if response.status >= 400:
                    await self._raise(response)
                self._count_request(verb, code)
                code = ""
                yield response
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise errors.UnavailableError(f"{verb} {path}: {type(error).__name__} {error}") from error
        finally:
            if code:
                self._count_request(verb, code)

    async def _raise(self, response: aiohttp.ClientResponse) -> None:
        text = (await response.read())[:65536]
        try:
            status = orjson.loads(text)
        except orjson.JSONDecodeError:
            status = {"message": text.decode(errors="replace")}
        if response.status == 401:  # a ServiceAccount's token lives for an hour, and its file is renewed
            self._headers = self._login().as_http_headers()
        retry_after = response.headers.get("Retry-After", "")
        raise errors.build_error(
            response.status,
            status.get("reason", "") or "",
            str(status.get("message") or response.reason)[:_MAX_ERROR_CHARACTERS],
            float(retry_after) if retry_after.isdigit() else 0.0,
        )


def _ssl_context(connection: kopf.ConnectionInfo) -> ssl.SSLContext:
    return connection.as_ssl_context()


def _parse_event(line: bytes) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(line)
    if event["type"] == "ERROR":
        status = event["object"]
        raise errors.build_error(status.get("code", 0), status.get("reason", ""), str(status.get("message", "")))
    return event
