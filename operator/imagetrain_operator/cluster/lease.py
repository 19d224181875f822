"""Leader election by a Lease: of several operators one acts.

As in client-go's leaderelection, no clocks of two machines are compared: a lease has expired when its record did not
change for its duration by the clock of the one who watches it.
"""

import asyncio
import datetime as dt
import logging
from typing import Any

from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)


class LeaderElection:
    """One candidate.

    Args:
        api: the client.
        namespace, name: of the Lease.
        identity: this candidate, different from every other.
        duration_seconds: how long a silent leader keeps the lease.
        renew_seconds: time between two renewals, at most a quarter of the duration; also between two looks at another's
            lease.
    """

    def __init__(
        self,
        api: client.ApiClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_seconds: float = 15.0,
        renew_seconds: float = 2.0,
    ) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration_seconds
        self._renew = min(renew_seconds, duration_seconds / 4)
        self._held_until = 0.0
        self._record: Any = None
        self._record_seen = 0.0
        self._lease: dict[str, Any] | None = None

    @property
    def is_leader(self) -> bool:
        """Whether the lease is held and cannot have been taken by another yet."""
        return asyncio.get_running_loop().time() < self._held_until

    async def acquire(self) -> None:
        """Wait until the lease is held."""
        while True:
            try:
                if await self._try():
                    logger.info("holding the lease %s/%s as %s", self._namespace, self._name, self._identity)
                    return
            except errors.ClusterError as error:
                logger.warning("lease %s/%s: %s", self._namespace, self._name, error)
            await asyncio.sleep(self._renew)

    async def hold(self) -> None:
        """Renew the lease until it is lost."""
        while self.is_leader:
            await asyncio.sleep(self._renew)
            try:
                async with asyncio.timeout_at(self._held_until):  # a request may wait for longer than the lease lasts
                    await self._try()
            except (errors.ClusterError, TimeoutError) as error:
                logger.warning(
                    "lease %s/%s was not renewed: %s", self._namespace, self._name, str(error) or "no answer"
                )
        logger.error("lost the lease %s/%s", self._namespace, self._name)

    async def release(self) -> None:
        """Give the lease to whoever asks next."""
        if not self.is_leader or self._lease is None:
            return
        self._held_until = 0.0
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._api.replace(f"{self._collection}/{self._name}", {**self._lease, "spec": spec})
        except errors.ClusterError as error:
            logger.warning("lease %s/%s was not given back: %s", self._namespace, self._name, error)

    async def _try(self) -> bool:
        """Create, take or renew the lease; tell whether it is held now."""
        asked_at = asyncio.get_running_loop().time()
        try:
            lease = await self._api.get(f"{self._collection}/{self._name}")
        except errors.NotFoundError:
            return await self._write(None, asked_at)
        self._observe(lease)
        holder = lease["spec"].get("holderIdentity") or ""
        if holder in ("", self._identity) or self._has_expired(lease):
            return await self._write(lease, asked_at)
        return False

    def _observe(self, lease: dict[str, Any]) -> None:
        record = (lease["spec"].get("holderIdentity"), lease["spec"].get("renewTime"))
        if record != self._record:
            self._record = record
            self._record_seen = asyncio.get_running_loop().time()

    def _has_expired(self, lease: dict[str, Any]) -> bool:
        duration = lease["spec"].get("leaseDurationSeconds") or self._duration
        return asyncio.get_running_loop().time() > self._record_seen + float(duration)

    async def _write(self, lease: dict[str, Any] | None, asked_at: float) -> bool:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        known = lease["spec"] if lease else {}
        is_renewal = known.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._duration),
            "renewTime": now,
            "acquireTime": known.get("acquireTime", now) if is_renewal else now,
            "leaseTransitions": known.get("leaseTransitions", 0) + (0 if is_renewal or not lease else 1),
        }
        try:
            if lease is None:
                metadata = {"name": self._name, "namespace": self._namespace}
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
                self._lease = await self._api.create(self._collection, body)
            else:
                self._lease = await self._api.replace(f"{self._collection}/{self._name}", {**lease, "spec": spec})
        except (errors.AlreadyExistsError, errors.ConflictError):
            return False  # another candidate was faster
        self._held_until = asked_at + self._duration * 2 / 3  # a safety margin, as client-go's renewDeadline
        return True
