"""Why pods are missing or do not start, where neither Job nor pod says so: looked for in events."""

import dataclasses
import logging
import time

from imagetrain_operator import observed, paths
from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 5.0  # for one job
# For all jobs: the API server reads every event of a namespace to find those of one object.
_INTERVAL_OF_ALL_SECONDS = 2.0
_STARTS_SLOWLY = ("ContainerCreating", "PodInitializing", "")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What is known of one job: see `observed.Observation`."""

    denial: observed.Denial | None = None
    mount_problem: str = ""


class Findings:
    """What was found, by job."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self._found: dict[observed.Key, Found] = {}
        self._asked_at: dict[observed.Key, float] = {}
        self._newest_question = -_INTERVAL_OF_ALL_SECONDS

    def get(self, key: observed.Key) -> Found:
        """Return what is known of a job."""
        return self._found.get(key, Found())

    def put_denial(self, key: observed.Key, denial: observed.Denial) -> None:
        """Remember why a child could not be created."""
        self._found[key] = dataclasses.replace(self.get(key), denial=denial)

    def forget(self, key: observed.Key) -> None:
        """Forget a job."""
        self._found.pop(key, None)
        self._asked_at.pop(key, None)

    async def investigate(
        self, key: observed.Key, child_jobs: tuple[observed.ChildJob, ...], pods: tuple[observed.Pod, ...]
    ) -> None:
        """Look for the newest event that tells why pods are missing (of the Job) or not starting (of a pod)."""
        now = time.monotonic()
        newest = max(child_jobs, key=lambda child: child.attempt, default=None)
        is_too_soon = now < max(
            self._asked_at.get(key, -_INTERVAL_SECONDS) + _INTERVAL_SECONDS,
            self._newest_question + _INTERVAL_OF_ALL_SECONDS,
        )
        if newest is None or is_too_soon:
            return
        waiting = [pod for pod in pods if pod.attempt == newest.attempt and pod.node and pod.phase == "Pending"]
        slow = next((pod for pod in waiting if pod.waiting_reason in _STARTS_SLOWLY), None)
        if pods and slow is None:
            self._found.pop(key, None)
            return
        self._asked_at[key] = self._newest_question = now
        denial = None if pods else await self._find_message(key, newest.uid, "FailedCreate")
        mount = await self._find_message(key, slow.uid, "FailedMount") if slow else ""
        self._found[key] = Found(denial=observed.Denial(message=denial) if denial else None, mount_problem=mount)

    async def _find_message(self, key: observed.Key, uid: str, reason: str) -> str:
        """Return the message of the newest event of an object with a reason; "" where there is none."""
        selector = f"involvedObject.uid={uid},reason={reason}"
        try:
            listed = await self._api.get(paths.events(key.namespace), {"fieldSelector": selector})
        except errors.ClusterError as error:
            logger.warning("%s: events could not be read: %s", key, error, extra={"job": str(key)})
            return ""
        events = sorted(
            listed.get("items") or (), key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or ""
        )
        return str(events[-1].get("message", "")) if events else ""
