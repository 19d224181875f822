"""The kopf handlers: they store what changed and name the job to the queue. Nothing is decided or waited for here."""

import typing
from collections.abc import Callable
from typing import Any

import kopf

from imagetrain_api import names
from imagetrain_operator import observed, reconcile
from imagetrain_operator.cluster import client, queue

_LIST_CHUNK = 500  # Kubernetes, "Retrieving large results sets in chunks"


def build_registry(
    jobs: reconcile.JobCache, work: queue.WorkQueue, count_event: Callable[[], None]
) -> kopf.OperatorRegistry:
    """Return the handlers: only `on.event`, so kopf writes nothing to the objects (no finalizer, no annotation)."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo:  # noqa: ANN401  # kopf's own arguments
        return client.read_connection(settings)

    @kopf.on.event(names.GROUP, names.VERSION, names.PLURAL, registry=registry)
    async def on_event(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401  # kopf runs others in threads
        count_event()
        take(event["type"], event["object"], jobs, work)

    return registry


def take(kind: str | None, raw: observed.RawObject, jobs: reconcile.JobCache, work: queue.WorkQueue) -> None:
    """Store an ImageTrainingJob of a watch event (`kind`: None when listed, ADDED, MODIFIED, DELETED)."""
    metadata = raw["metadata"]
    key = observed.Key(metadata["namespace"], metadata["name"])
    if kind == "DELETED":
        jobs.remove(key, metadata.get("uid"))
        work.add(key)
        return
    _, is_news = jobs.put(raw)
    if is_news:
        work.add(key)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Spares kopf the comparison with a last-handled state, which `on.event` handlers do not look at."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002
        return typing.cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


def build_settings() -> kopf.OperatorSettings:
    """Return kopf's settings: no events of its own, no look at CRDs and namespaces, quick to forget and to end."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.scanning.disabled = True
    settings.watching.chunk_size = _LIST_CHUNK
    settings.watching.connect_timeout = 10.0
    settings.networking.connect_timeout = 10.0
    settings.queueing.idle_timeout = 0.5  # a task and a queue for each object that was seen lately
    settings.queueing.exit_timeout = 1.0
    return settings
