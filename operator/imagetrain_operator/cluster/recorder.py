"""Events on a job, as `kubectl describe` shows them."""

import datetime as dt
import logging
import secrets
from typing import Any

from imagetrain_api import names
from imagetrain_operator import observed
from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)

COMPONENT = "imagetrain-operator"
MAX_MESSAGE_CHARACTERS = 1024  # Kubernetes, events: a longer message is refused


class Recorder:
    """Posts events; one that cannot be posted is logged and lost, for the status has the same words."""

    def __init__(self, api: client.ApiClient, instance: str) -> None:
        self._api = api
        self._instance = instance

    async def post(self, job: observed.TrainingJob, kind: str, reason: str, message: str, now: dt.datetime) -> None:
        """Post one event of type Normal or Warning."""
        try:
            path = f"/api/v1/namespaces/{job.key.namespace}/events"
            await self._api.create(path, self._build(job, kind, reason, message, now))
        except errors.ClusterError as error:
            logger.warning("%s: the event %s was not posted: %s", job.key, reason, error)

    def _build(
        self, job: observed.TrainingJob, kind: str, reason: str, message: str, now: dt.datetime
    ) -> dict[str, Any]:
        when = now.isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{job.key.name}.{secrets.token_hex(8)}", "namespace": job.key.namespace},
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "namespace": job.key.namespace,
                "name": job.key.name,
                "uid": job.uid,
                "resourceVersion": job.resource_version,
            },
            "type": kind,
            "reason": reason,
            "message": message[:MAX_MESSAGE_CHARACTERS],
            "action": reason,
            "count": 1,
            "firstTimestamp": when,
            "lastTimestamp": when,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }
