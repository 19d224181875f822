"""A check on the watch of ImageTrainingJobs: once a minute the known jobs are compared with a list of all.

A watch may die in silence (nolar/kopf#996, #1276). A canary object would show that only for its own namespace and its
own changes; the comparison shows it for every job, mends what was missed, and makes the liveness probe fail.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from imagetrain_operator import observed, paths
from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)

_MAX_MENDED = 100  # missed jobs fetched in one round

Versions = Mapping[observed.Key, str]  # resource versions
Take = Callable[[str | None, observed.RawObject], None]


class WatchAudit:
    """Compares, mends and remembers.

    Args:
        api: the client.
        namespaces: namespaces to serve; empty: all.
        known: returns the resource versions of the known jobs.
        take: stores an object as a watch event would.
        interval_seconds: time between two rounds.
    """

    def __init__(
        self,
        api: client.ApiClient,
        namespaces: tuple[str, ...],
        known: Callable[[], Versions],
        take: Take,
        interval_seconds: float,
    ) -> None:
        self._api = api
        self._namespaces = namespaces
        self._known = known
        self._take = take
        self._interval = interval_seconds
        self._suspects: dict[observed.Key, str] = {}
        self.is_watch_alive = True

    async def run(self) -> None:
        """Compare for ever."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.compare()
            except errors.ClusterError as error:
                logger.warning("the jobs could not be listed: %s", error)

    async def compare(self) -> None:
        """Find jobs whose newest version was there a round ago already and never came by the watch."""
        listed: dict[observed.Key, str] = {}
        for namespace in self._namespaces or (None,):
            listed.update(await self._list_versions(namespace))
        known = self._known()
        behind = {key: version for key, version in listed.items() if known.get(key) != version}
        gone = {key: "" for key in known if key not in listed}
        missed = [key for key, version in {**behind, **gone}.items() if self._suspects.get(key) == version]
        self._suspects = {**behind, **gone}
        self.is_watch_alive = not missed
        for key in missed[:_MAX_MENDED]:
            logger.error("%s: a change of it never came by the watch", key, extra={"job": str(key)})
            await self._mend(key)

    async def _list_versions(self, namespace: str | None) -> dict[observed.Key, str]:
        versions = {}
        async for item in self._api.list_metadata(paths.training_jobs(namespace)):
            metadata: dict[str, Any] = item["metadata"]
            versions[observed.Key(metadata["namespace"], metadata["name"])] = metadata["resourceVersion"]
        return versions

    async def _mend(self, key: observed.Key) -> None:
        try:
            self._take("MODIFIED", await self._api.get(paths.training_job(key.namespace, key.name)))
        except errors.NotFoundError:
            self._take("DELETED", {"metadata": {"namespace": key.namespace, "name": key.name}})
