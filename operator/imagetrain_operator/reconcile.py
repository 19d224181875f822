"""One reconciliation: observe, decide, write the status, delete, create, announce.

All effects of a decision happen here and in this order. The status comes first: an attempt is counted before its pods
exist, and a job has ended before anything else is done about it. Only the first attempt may start before it is told:
its Job is found again by its name, so an operator that dies in between begins nothing twice.
"""

import contextlib
import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Iterator

from imagetrain_api import schema
from imagetrain_api.status import JobStatus
from imagetrain_operator import metrics, observed, paths, status_pace
from imagetrain_operator.cluster import (
    client,
    errors,
    findings,
    informer,
    node_notices,
    pod_deletions,
    progress_board,
    queue,
    recorder,
)
from imagetrain_operator.plan import children, conditions, decide, parse
from imagetrain_operator.plan.draft import Plan

logger = logging.getLogger(__name__)

_FOREIGN_RETRY_SECONDS = 5.0


class JobCache:
    """The newest known version of each ImageTrainingJob."""

    def __init__(self) -> None:
        self._jobs: dict[observed.Key, observed.TrainingJob] = {}

    def get(self, key: observed.Key) -> observed.TrainingJob | None:
        """Return a job, or None where it is not known."""
        return self._jobs.get(key)

    def put(self, raw: observed.RawObject) -> tuple[observed.TrainingJob, bool]:
        """Store a job; return it and whether it is news: labels, annotations and the like are nothing to decide on."""
        metadata = raw["metadata"]
        key = observed.Key(metadata["namespace"], metadata["name"])
        known = self._jobs.get(key)
        if known and known.uid == metadata["uid"] and not _is_newer(metadata["resourceVersion"], known):
            return known, False  # the answer to a write may come after the event of a later one
        job = parse.parse_training_job(raw, known)
        self._jobs[key] = job
        return job, known is None or dataclasses.replace(known, resource_version=job.resource_version) != job

    def remove(self, key: observed.Key, uid: str | None) -> None:
        """Forget a job, unless another one of its name has come; without a uid whichever it is."""
        known = self._jobs.get(key)
        if known is not None and uid in (None, known.uid):
            del self._jobs[key]

    def __iter__(self) -> Iterator[observed.TrainingJob]:
        return iter(tuple(self._jobs.values()))


def _is_newer(version: str, known: observed.TrainingJob) -> bool:
    """Tell whether a version follows a known one (KEP-5504: resource versions of one kind are ordered integers)."""
    if version.isdigit() and known.resource_version.isdigit():
        return int(version) > int(known.resource_version)
    return version != known.resource_version


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a reconciler works with."""

    api: client.ApiClient
    jobs: JobCache
    child_jobs: informer.ChildCache[observed.ChildJob]
    pods: informer.ChildCache[observed.Pod]
    queue: queue.WorkQueue
    board: progress_board.ProgressBoard
    findings: findings.Findings
    recorder: recorder.Recorder
    metrics: metrics.OperatorMetrics
    defaults: children.Defaults
    status_interval_seconds: float
    notices: node_notices.NodeNotices | None = None  # of nodes; None where they are not watched


class Reconciler:
    """Brings one job after the other nearer to what it asks for."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._pace = status_pace.StatusPace(around.status_interval_seconds)
        self._pod_deletions = pod_deletions.PodDeletions(
            around.api, around.pods, around.recorder, around.queue.add_after
        )

    async def run(self) -> None:
        """Reconcile for ever; trouble with the API server puts a job back with a growing delay."""
        around = self._around
        while True:
            key = await around.queue.get()
            started_at = time.perf_counter()
            result = "ok"
            try:
                await self.reconcile(key)
                around.queue.forget(key)
            except errors.ClusterError as error:
                result = "retry"
                delay = around.queue.retry(key, error.retry_after_seconds)
                logger.warning("%s: %s; trying again in %.1f s", key, error, delay, extra={"job": str(key)})
            except Exception:
                result = "error"
                delay = around.queue.retry(key)
                logger.exception("%s: the reconciliation failed; trying again in %.1f s", key, delay)
            finally:
                around.queue.done(key)
                around.metrics.reconcile_seconds.labels(result).observe(time.perf_counter() - started_at)

    async def reconcile(self, key: observed.Key) -> None:
        """Do for one job what is to be done now.

        Raises:
            ClusterError: an effect did not take place; the next reconciliation tries again.
        """
        job = self._around.jobs.get(key)
        if job is None:
            self._forget(key)
            return
        now = dt.datetime.now(dt.UTC)
        seen = self._observe(job)
        plan = decide.decide(seen, now)
        try:
            is_told = await self._write_status(job, plan)
        except errors.NotFoundError:
            return  # deleted meanwhile: its event is on the way, and nothing is made for it
        if is_told:
            await self._announce(job, plan, now)
        for deletion in plan.delete_pods:
            await self._pod_deletions.apply(job, deletion, now)
        for child in plan.delete_children:
            await self._delete_child(key, child)
        if plan.start_attempt is not None:
            await self._start(job, plan)
        if plan.delete_job:
            await self._delete_job(job)
        self._follow_up(key, plan)
        if plan.investigate:
            self._around.findings.investigate(key, seen.child_jobs, seen.pods, now)

    def _observe(self, job: observed.TrainingJob) -> observed.Observation:
        around, key = self._around, job.key
        found = around.findings.get(key)
        child_jobs = tuple(child for child in around.child_jobs.of_job(key) if child.owner_uid == job.uid)
        pods = self._own_pods(job, child_jobs)
        notices = around.notices
        return observed.Observation(
            job=job,
            child_jobs=child_jobs,
            pods=pods,
            progress=around.board.report(key),
            silence=around.board.silence(key),
            denial=found.denial,
            mount_problem=found.mount_problem,
            node_notices=notices.of_nodes(pod.node for pod in pods) if notices is not None else (),
        )

    def _own_pods(
        self, job: observed.TrainingJob, child_jobs: tuple[observed.ChildJob, ...]
    ) -> tuple[observed.Pod, ...]:
        """Return the job's pods, and forget those that are gone as their attempt's Job is."""
        run_id = children.run_id(job)  # pods of another run belonged to another job of this name
        alive = {job.status.attempt, *(child.attempt for child in child_jobs)}
        own = []
        for pod in self._around.pods.of_job(job.key):
            if pod.is_gone and (pod.attempt not in alive or pod.run_id != run_id):
                self._around.pods.remove(pod)
            elif pod.run_id == run_id:
                own.append(pod)
        return tuple(own)

    def _forget(self, key: observed.Key) -> None:
        self._around.board.stop(key)
        self._around.findings.forget(key)
        self._around.queue.cancel(key)
        self._pace.forget(key)
        for pod in self._around.pods.of_job(key):
            if pod.is_gone:  # others exist: their job may just not be known yet, as at the start
                self._around.pods.remove(pod)

    def _follow_up(self, key: observed.Key, plan: Plan) -> None:
        around = self._around
        if plan.chief_ip:
            around.board.watch(key, plan.chief_ip)
        else:
            around.board.stop(key)
        if plan.requeue_after_seconds is not None:
            around.queue.add_after(key, plan.requeue_after_seconds)

    async def _write_status(self, job: observed.TrainingJob, plan: Plan) -> bool:
        """Write the status if it changed and the change is due. Tell whether it is true now.

        Raises:
            NotFoundError: the job is gone.
        """
        if plan.status == job.status:
            self._pace.note_unchanged(job.key)
            return True
        now = time.monotonic()
        wait = self._pace.due_at(job.key, job.status, plan.status, now) - now
        if wait > 0:
            self._around.queue.add_after(job.key, wait)
            return False
        patch = {"metadata": {"uid": job.uid}, "status": build_status_patch(job.status, plan.status)}
        path = paths.training_job_status(job.key.namespace, job.key.name)
        written = await self._around.api.merge_patch(path, patch)
        self._pace.note_written(job.key, time.monotonic())
        self._around.jobs.put(written)
        self._count(job, plan.status)
        return True

    def _count(self, job: observed.TrainingJob, status: JobStatus) -> None:
        known = {ended.attempt for ended in job.status.attempts}
        for ended in status.attempts:
            if ended.attempt not in known:
                is_followed = status.attempt is not None and status.attempt > ended.attempt
                self._around.metrics.count_end(job.key.namespace, ended.reason, is_followed=is_followed)
        started_at = conditions.parse_time(status.attempt_start_time)
        if status.phase == "Training" and job.status.phase in ("Pending", "Starting") and started_at is not None:
            elapsed = dt.datetime.now(dt.UTC) - started_at
            self._around.metrics.first_step_seconds.observe(elapsed.total_seconds())

    async def _announce(self, job: observed.TrainingJob, plan: Plan, now: dt.datetime) -> None:
        for event in plan.events:
            logger.info("%s: %s: %s", job.key, event.reason, event.message, extra={"job": str(job.key)})
            await self._around.recorder.post(job, event.kind, event.reason, event.message, now)

    async def _start(self, job: observed.TrainingJob, plan: Plan) -> None:
        """Create the Service and the Job of an attempt, unless they are there."""
        attempt = plan.start_attempt
        assert attempt is not None
        key = job.key
        if self._knows_attempt(job, attempt):
            return
        try:
            await self._create(job, paths.services(key.namespace), children.build_service(job))
            created = await self._create(
                job, paths.child_jobs(key.namespace), children.build_child_job(job, attempt, self._around.defaults)
            )
        except errors.RefusedError as error:
            self._around.findings.put_denial(
                key, observed.Denial(message=str(error), is_final=error.code in (400, 422))
            )
            self._around.queue.add_after(key, _FOREIGN_RETRY_SECONDS if error.code == 403 else 0.0)
            return
        except ValueError as error:  # the podTemplate does not fit a pod template
            self._around.findings.put_denial(key, observed.Denial(message=str(error), is_final=True))
            self._around.queue.add(key)
            return
        self._around.findings.forget(key)
        child = parse.parse_child_job(created)
        if child is not None and not self._knows_attempt(job, attempt):  # the watch may have told of it, and of more
            self._around.child_jobs.put(child)

    def _knows_attempt(self, job: observed.TrainingJob, attempt: int) -> bool:
        known = self._around.child_jobs.of_job(job.key)
        return any(child.attempt == attempt and child.owner_uid == job.uid for child in known)

    async def _create(self, job: observed.TrainingJob, collection: str, body: dict[str, object]) -> dict[str, object]:
        """Create a child; one that is there already is taken where it is the job's own.

        Raises:
            UnavailableError: an object of that name belongs to something else, such as an earlier job that is being
                deleted.
        """
        try:
            return await self._around.api.create(collection, body)
        except errors.AlreadyExistsError:
            metadata = body["metadata"]
            assert isinstance(metadata, dict)
            found = await self._around.api.get(f"{collection}/{metadata['name']}")
            owners = found["metadata"].get("ownerReferences") or ()
            if any(owner.get("uid") == job.uid for owner in owners):
                return found
            kind = body["kind"]
            raise errors.UnavailableError(
                f"the {kind} {metadata['name']} belongs to something else; waiting until it is gone",
                retry_after_seconds=1.0,
            ) from None

    async def _delete_child(self, key: observed.Key, child: observed.ChildJob) -> None:
        path = f"{paths.child_jobs(key.namespace)}/{child.name}"
        with contextlib.suppress(errors.NotFoundError, errors.ConflictError):  # it is gone, or another has its name
            await self._around.api.delete(path, child.uid)
        if any(known.uid == child.uid for known in self._around.child_jobs.of_job(key)):  # the watch may be faster
            self._around.child_jobs.put(dataclasses.replace(child, is_deleting=True))

    async def _delete_job(self, job: observed.TrainingJob) -> None:
        logger.info("%s: deleting it, for spec.ttlSecondsAfterFinished is over", job.key, extra={"job": str(job.key)})
        with contextlib.suppress(errors.NotFoundError, errors.ConflictError):  # it is gone, or another has its name
            await self._around.api.delete(paths.training_job(job.key.namespace, job.key.name), job.uid)


def build_status_patch(old: JobStatus, new: JobStatus) -> dict[str, object]:
    """Return the merge patch (RFC 7386) from one status to another: changed top-level fields, null for dropped ones."""
    before, after = schema.encode(old), schema.encode(new)
    patch: dict[str, object] = {key: value for key, value in after.items() if before.get(key) != value}
    for key in before.keys() - after.keys():
        patch[key] = None
    for key in ("progress", "outputs"):
        if isinstance(known := before.get(key), dict) and isinstance(changed := patch.get(key), dict):
            patch[key] = {**dict.fromkeys(known.keys() - changed.keys()), **changed}
    return patch
