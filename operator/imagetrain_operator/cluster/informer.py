"""A cache of one kind of child objects, kept by list and watch.

kopf watches the ImageTrainingJobs. Children are watched here, because kopf keeps some 40 KB for each object that it has
seen and spends 0.5 ms on each event (docs/design/20261124-operator.md); a typed cache of our own takes a tenth of both.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from imagetrain_operator import observed
from imagetrain_operator.cluster import client, watch


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

    def jobs_on(self, node: str) -> tuple[observed.Key, ...]:
        """Return the jobs that have pods on a node."""
        return tuple(key for key, pods in self._by_job.items() if any(pod.node == node for pod in pods.values()))


def _key(child: Child) -> observed.Key:
    return observed.Key(child.namespace, child.job_name)


class Informer(watch.Watch, Generic[C]):
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
        super().__init__(api, path, {"labelSelector": label_selector}, count_event)
        self._parse = parse
        self._cache = cache
        self._on_change = on_change
        self._remember = remember
        self._mine: dict[watch.ObjectName, C] = {}

    def _store(self, raw: observed.RawObject) -> bool:
        child = self._parse(raw)
        if child is None:
            return False
        self._mine[watch.ObjectName(child.namespace, child.name)] = child
        if self._cache.put(child):
            self._on_change(_key(child))
        return True

    def _drop(self, raw: observed.RawObject) -> None:
        child = self._parse(raw)
        if child is not None:
            self._forget(child)

    def _drop_others(self, kept: set[watch.ObjectName]) -> None:
        for name in [name for name in self._mine if name not in kept]:
            self._forget(self._mine[name])

    def _forget(self, child: C) -> None:
        self._mine.pop(watch.ObjectName(child.namespace, child.name), None)
        rest = self._remember(child)
        if self._cache.put(rest) if rest is not None else self._cache.remove(child):
            self._on_change(_key(child))
