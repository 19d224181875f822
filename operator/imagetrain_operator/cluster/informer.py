"""A cache of one kind of child objects, kept by list and watch.

kopf watches the ImageTrainingJobs. Children are watched here, because kopf keeps some 40 KB for each object that it has
seen and spends 0.5 ms on each event (docs/design/20261124-operator.md); a typed cache of our own takes a tenth of both.
"""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from imagetrain_operator import observed
from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 300  # ended by the server, at most; spread by a quarter so that streams do not end together
_MAX_BACKOFF_SECONDS = 30.0
_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.3, 5.0  # between two attempts to go on with a broken watch


class Child(Protocol):
    """What the cache must know of an object: a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def namespace(self) -> str:
        """metadata.namespace."""

    @property
    def name(self) -> str:
        """metadata.name."""

    @property
    def resource_version(self) -> str:
        """metadata.resourceVersion."""

    @property
    def job_name(self) -> str:
        """Name of the training job that it belongs to."""


C = TypeVar("C", bound=Child)


class ChildCache(Generic[C]):
    """Children by training job; the newest version of each."""

    def __init__(self) -> None:
        self._by_job: dict[observed.Key, dict[str, C]] = {}

    def of_job(self, key: observed.Key) -> tuple[C, ...]:
        """Return the children of one job."""
        return tuple(self._by_job.get(key, {}).values())

    def put(self, child: C) -> bool:
        """Store a child; tell whether it is news."""
        children = self._by_job.setdefault(_key(child), {})
        known = children.get(child.name)
        children[child.name] = child
        # Many versions differ in what the operator does not look at, such as the Job controller's finalizer.
        return known is None or dataclasses.replace(known, resource_version=child.resource_version) != child

    def remove(self, child: C) -> bool:
        """Forget a child; tell whether it was known."""
        key = _key(child)
        children = self._by_job.get(key, {})
        known = children.pop(child.name, None)
        if not children:
            self._by_job.pop(key, None)
        return known is not None


class PodCache(ChildCache[observed.Pod]):
    """Pods; each remembers when its deletion was first asked for, which a kubelet's last word overwrites."""

    def put(self, child: observed.Pod) -> bool:
        """Store a pod; tell whether it is news."""
        known = self._by_job.get(_key(child), {}).get(child.name)
        if known is not None and known.uid == child.uid and known.deleted_at is not None:
            child = dataclasses.replace(child, deleted_at=known.deleted_at)
        return super().put(child)


def _key(child: Child) -> observed.Key:
    return observed.Key(child.namespace, child.job_name)


class Informer(Generic[C]):
    """Keeps a cache equal to what the API server holds, and names each job whose children changed.

    Args:
        api: the client.
        path: path of the collection, of one namespace or of all.
        label_selector: server-side filter.
        parse: makes a child of an object; None for one that is not ours.
        cache: where children go; informers of several namespaces share one.
        on_change: told the key of a job after each change of its children.
        count_event: told of each event.
        remember: makes what is kept of a deleted child, or None; a deleted pod tells its exit code with its last event.
    """

    def __init__(
        self,
        api: client.ApiClient,
        path: str,
        label_selector: str,
        parse: Callable[[observed.RawObject], C | None],
        cache: ChildCache[C],
        on_change: Callable[[observed.Key], None],
        count_event: Callable[[], None],
        remember: Callable[[C], C | None] = lambda _: None,
    ) -> None:
        self._api = api
        self._path = path
        self._selector = label_selector
        self._parse = parse
        self._cache = cache
        self._on_change = on_change
        self._count_event = count_event
        self._remember = remember
        self._mine: dict[tuple[str, str], C] = {}
        self.is_synced = asyncio.Event()
        self.last_heard = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """List and watch for ever; trouble is waited out."""
        backoff = 0.1
        while True:
            try:
                version = await self._list()
                self.is_synced.set()
                backoff = 0.1
                await self._follow(version)
            except errors.ExpiredError:
                logger.info("%s: the watch fell behind; listing anew", self._path)
            except errors.ClusterError as error:
                logger.warning("%s: %s; trying again in %.1f s", self._path, error, backoff)
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
                backoff = min(2 * backoff, _MAX_BACKOFF_SECONDS)

    async def _list(self) -> str:
        """Fetch everything, drop what is gone, and return the resource version to watch from."""
        found: set[tuple[str, str]] = set()
        params = {"labelSelector": self._selector, "limit": str(client.LIST_CHUNK)}
        while True:
            page = await self._api.get(self._path, params)
            self.last_heard = asyncio.get_running_loop().time()
            for raw in page.get("items") or ():
                child = self._parse(raw)
                if child is not None:
                    found.add((child.namespace, child.name))
                    self._store(child)
            if not (token := page["metadata"].get("continue")):
                break
            params = {**params, "continue": token}
        for name in [name for name in self._mine if name not in found]:
            self._drop(self._mine[name])
        version: str = page["metadata"]["resourceVersion"]
        return version

    async def _follow(self, version: str) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            seconds = int(_WATCH_SECONDS * random.uniform(0.75, 1.0))  # noqa: S311  # spread, not a secret
            params = {
                "labelSelector": self._selector,
                "resourceVersion": version,
                "timeoutSeconds": str(seconds),
            }
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
        if event["type"] == "BOOKMARK":
            return
        self._count_event()
        child = self._parse(event["object"])
        if child is None:
            return
        if event["type"] == "DELETED":
            self._drop(child)
        else:
            self._store(child)

    def _store(self, child: C) -> None:
        self._mine[child.namespace, child.name] = child
        if self._cache.put(child):
            self._on_change(_key(child))

    def _drop(self, child: C) -> None:
        self._mine.pop((child.namespace, child.name), None)
        kept = self._remember(child)
        if self._cache.put(kept) if kept is not None else self._cache.remove(child):
            self._on_change(_key(child))
