"""Why pods are missing or do not start, where neither Job nor pod says so: looked for in events."""

import asyncio
import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Callable

from imagetrain_operator import observed, paths
from imagetrain_operator.cluster import client, errors

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 5.0  # for one job
_TURN_SECONDS = 4.0  # of a controller or node with what it has come to; a second less, as times have whole seconds
_PAUSE_SECONDS = 0.2  # after each question
_STARTS_SLOWLY = ("ContainerCreating", "PodInitializing", "")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What is known of one job: see `observed.Observation`."""

    denial: observed.Denial | None = None
    mount_problem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Question:
    """Of which object what is asked: of a Job why it makes no pods, or of a pod why its volumes are not there."""

    uid: str
    reason: str


class Findings:
    """What was found, by job; one question at a time, in the order in which they were put.

    Args:
        api: the client.
        on_change: told the key of a job of which something new was found.
    """

    def __init__(self, api: client.ApiClient, on_change: Callable[[observed.Key], None]) -> None:
        self._api = api
        self._on_change = on_change
        self._found: dict[observed.Key, Found] = {}
        self._asked_at: dict[observed.Key, float] = {}
        self._questions: dict[observed.Key, _Question] = {}
        self._wake = asyncio.Event()

    def get(self, key: observed.Key) -> Found:
        """Return what is known of a job."""
        return self._found.get(key, Found())

    def put_denial(self, key: observed.Key, denial: observed.Denial) -> None:
        """Remember why a child could not be created."""
        self._found[key] = dataclasses.replace(self.get(key), denial=denial)

    def forget(self, key: observed.Key) -> None:
        """Forget a job."""
        for known in (self._found, self._asked_at, self._questions):
            known.pop(key, None)

    def investigate(
        self,
        key: observed.Key,
        child_jobs: tuple[observed.ChildJob, ...],
        pods: tuple[observed.Pod, ...],
        now: dt.datetime,
    ) -> None:
        """Have it looked for why pods are missing (in the Job's events) or not starting (in a pod's).

        Nothing is asked of what has not had its turn yet: a busy Job controller or scheduler has nothing to tell.
        """
        newest = max(child_jobs, key=lambda child: child.attempt, default=None)
        if newest is None:
            return
        waiting = [pod for pod in pods if pod.attempt == newest.attempt and pod.node and pod.phase == "Pending"]
        silent = [pod for pod in waiting if pod.waiting_reason in _STARTS_SLOWLY]
        slow = min(silent, key=lambda pod: pod.placed_at or now, default=None)
        if pods and slow is None:
            self._found.pop(key, None)
        elif not _had_its_turn(slow.placed_at if slow else newest.started_at, now):
            return
        elif time.monotonic() >= self._asked_at.get(key, -_INTERVAL_SECONDS) + _INTERVAL_SECONDS:
            self._questions[key] = _Question(slow.uid, "FailedMount") if slow else _Question(newest.uid, "FailedCreate")
            self._wake.set()

    async def run(self) -> None:
        """Look for ever, in at most a fifth of the time: the API server reads all events of a namespace for it."""
        while True:
            await self._wake.wait()
            if not self._questions:
                self._wake.clear()
                continue
            key = next(iter(self._questions))
            question = self._questions.pop(key)
            begun = self._asked_at[key] = time.monotonic()
            message = await self._find_message(key, question.uid, question.reason)
            logger.debug("%s: %s of %s: %r", key, question.reason, question.uid, message, extra={"job": str(key)})
            is_denial = question.reason == "FailedCreate"
            denial = observed.Denial(message=message) if is_denial and message else None
            found = Found(denial=denial, mount_problem="" if is_denial else message)
            if found != self.get(key):
                self._found[key] = found
                self._on_change(key)
            await asyncio.sleep(max(_PAUSE_SECONDS, 4 * (time.monotonic() - begun)))

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


def _had_its_turn(since: dt.datetime | None, now: dt.datetime) -> bool:
    return since is not None and (now - since).total_seconds() >= _TURN_SECONDS
