"""Deletes pods by themselves, as an eviction does: a condition tells why before the pod goes."""

import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Callable

from imagetrain_operator import observed, paths
from imagetrain_operator.cluster import client, errors, informer, recorder
from imagetrain_operator.plan import conditions, parse
from imagetrain_operator.plan.draft import PodDeletion

logger = logging.getLogger(__name__)

_REFUSED_RETRY_SECONDS = 60.0


class PodDeletions:
    """Carries out deletions; one that is refused is put off for a minute.

    Args:
        api: the client.
        pods: the known pods; what became of them is put there.
        post: posts the events.
        look_again: has a job looked at after so many seconds.
    """

    def __init__(
        self,
        api: client.ApiClient,
        pods: informer.ChildCache[observed.Pod],
        post: recorder.Recorder,
        look_again: Callable[[observed.Key, float], None],
    ) -> None:
        self._api = api
        self._pods = pods
        self._recorder = post
        self._look_again = look_again
        self._refused_until: dict[str, float] = {}  # monotonic time by the uid of a pod that may not be deleted

    async def apply(self, job: observed.TrainingJob, deletion: PodDeletion, now: dt.datetime) -> None:
        """Say in the pod's status why it goes, delete it, and announce it.

        A pod that is deleted by force is called failed first, as the pod garbage collector does: the Job controller
        holds on to a pod that never ended, and would make no other.
        """
        pod, event = deletion.pod, deletion.event
        if time.monotonic() < self._refused_until.get(pod.uid, 0.0):
            return
        path = paths.pod(pod.namespace, pod.name)
        try:
            written = await self._api.strategic_patch(f"{path}/status", build_disruption_patch(deletion, now))
            answer = await self._api.delete(path, pod.uid, by_force=deletion.by_force)
        except (errors.NotFoundError, errors.ConflictError):  # it is gone, or another has its name
            return
        except errors.RefusedError as error:
            logger.warning("%s: the pod %s cannot be deleted: %s", job.key, pod.name, error)
            self._put_off(job.key, pod.uid)
            return
        self._refused_until.pop(pod.uid, None)
        await self._recorder.post(job, event.kind, event.reason, event.message, now)
        self._remember(job.key, deletion, written if deletion.by_force else answer)

    def _put_off(self, key: observed.Key, uid: str) -> None:
        clock = time.monotonic()
        self._refused_until = {other: until for other, until in self._refused_until.items() if until > clock}
        self._refused_until[uid] = clock + _REFUSED_RETRY_SECONDS
        self._look_again(key, _REFUSED_RETRY_SECONDS)

    def _remember(self, key: observed.Key, deletion: PodDeletion, raw: observed.RawObject) -> None:
        """Keep what became of the pod, unless the watch was faster."""
        pod = parse.parse_pod(raw)
        known = next((each for each in self._pods.of_job(key) if each.uid == deletion.pod.uid), None)
        if pod is None or known is None:
            return
        if deletion.by_force:
            self._pods.put(dataclasses.replace(pod, is_gone=True))
        elif known.deletion_deadline is None and not known.is_finished:
            self._pods.put(pod)
        self._look_again(key, 0.0)


def build_disruption_patch(deletion: PodDeletion, now: dt.datetime) -> dict[str, object]:
    """Return the strategic merge patch that tells why a pod is deleted (Kubernetes, "Pod disruption conditions").

    By force it calls the pod failed, too (Kubernetes, pkg/controller/podgc).
    """
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": deletion.reason,
        "message": deletion.why,
        "lastTransitionTime": conditions.format_time(now),
    }
    phase = {"phase": "Failed"} if deletion.by_force else {}
    return {"metadata": {"uid": deletion.pod.uid}, "status": {**phase, "conditions": [condition]}}
