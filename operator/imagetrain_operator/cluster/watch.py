"""List and watch of one collection, as client-go's reflector does it: for ever, and through every trouble.

What becomes of the objects is the subclass's affair.
"""

import abc
import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from imagetrain_operator import observed
from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 300  # ended by the server, at most; spread by a quarter so that streams do not end together
_FIRST_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.1, 30.0
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.3, 5.0  # between two attempts to go on with a broken watch


class ObjectName(NamedTuple):
    """Identity of an object in its collection; the namespace is "" where the kind has none."""

    namespace: str
    name: str


class Watch(abc.ABC):
    """Tells a subclass what a collection holds, and each change of it.

    Args:
        api: the client.
        path: path of the collection, of one namespace or of all.
        params: server-side filter.
        count_event: told of each event.
    """

    def __init__(
        self, api: client.ApiClient, path: str, params: Mapping[str, str], count_event: Callable[[], None]
    ) -> None:
        self._api = api
        self._path = path
        self._params = params
        self._count_event = count_event
        self._backoff = _FIRST_BACKOFF_SECONDS
        self.is_synced = asyncio.Event()
        self.last_heard = asyncio.get_running_loop().time()

    @abc.abstractmethod
    def _store(self, raw: observed.RawObject) -> bool:
        """Take note of an object that exists; tell whether something of it is kept."""

    @abc.abstractmethod
    def _drop(self, raw: observed.RawObject) -> None:
        """Take note of an object's deletion."""

    @abc.abstractmethod
    def _drop_others(self, kept: set[ObjectName]) -> None:
        """Take note that nothing else exists of which something is to be kept."""

    def _report(self, error: errors.ClusterError, delay: float) -> None:
        """Log why nothing is heard."""
        logger.warning("%s: %s; trying again in %.1f s", self._path, error, delay)

    async def run(self) -> None:
        """List and watch for ever; trouble is waited out."""
        while True:
            try:
                version = await self._list()
                self.is_synced.set()
                await self._follow(version)
            except errors.ExpiredError:
                logger.info("%s: the watch fell behind; listing anew", self._path)
            except errors.ClusterError as error:
                self._report(error, self._backoff)
                await asyncio.sleep(self._backoff * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
                self._backoff = min(2 * self._backoff, _MAX_BACKOFF_SECONDS)

    async def _list(self) -> str:
        """Fetch everything, drop what is gone, and return the resource version to watch from."""
        kept: set[ObjectName] = set()
        params = {**self._params, "limit": str(client.LIST_CHUNK)}
        while True:
            page = await self._api.get(self._path, params)
            self.last_heard = asyncio.get_running_loop().time()
            for raw in page.get("items") or ():
                if self._store(raw):
                    kept.add(name_of(raw))
            if not (token := page["metadata"].get("continue")):
                break
            params = {**params, "continue": token}
        self._drop_others(kept)
        version: str = page["metadata"]["resourceVersion"]
        return version

    async def _follow(self, version: str) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            seconds = int(_WATCH_SECONDS * random.uniform(0.75, 1.0))  # noqa: S311  # spread, not a secret
            params = {**self._params, "resourceVersion": version, "timeoutSeconds": str(seconds)}
            try:
                async for event in self._api.watch(self._path, params):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._handle(event)
                    pause = _FIRST_PAUSE_SECONDS
            except errors.UnavailableError as error:
                logger.info("%s: the watch broke (%s); going on from version %s", self._path, error, version)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _handle(self, event: dict[str, Any]) -> None:
        self.last_heard = asyncio.get_running_loop().time()
        self._backoff = _FIRST_BACKOFF_SECONDS  # not after the list: who may list may not be one who may watch
        if event["type"] == "BOOKMARK":
            return
        self._count_event()
        if event["type"] == "DELETED":
            self._drop(event["object"])
        else:
            self._store(event["object"])


def name_of(raw: observed.RawObject) -> ObjectName:
    """Return an object's identity."""
    metadata = raw["metadata"]
    return ObjectName(metadata.get("namespace", ""), metadata["name"])
