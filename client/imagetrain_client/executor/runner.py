"""A whole run: attempts of its group until it is done, has failed for good, or was asked to stop."""

import dataclasses
import time
from collections.abc import Mapping

from imagetrain_api import exit_codes, job, names, plan, progress, worker_config
from imagetrain_api.exit_codes import ExitCode
from imagetrain_client.executor import attempt, events, folders, placement, policy, polling, stopping, tracking

_TICK_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run.

    Attributes:
        job: the job.
        run_id: identity of the run; one that was there before resumes from its newest checkpoint.
        folder: its folder on this machine, locked by the caller.
        is_resumed: whether the run was there before.
        deadline_seconds: save and stop after so long; None: never.
        environment: what the workers inherit.
    """

    job: job.ImageTrainingJob
    run_id: str
    folder: folders.RunFolder
    is_resumed: bool
    deadline_seconds: float | None
    environment: Mapping[str, str]


def run(request: RunRequest, listen: events.Listener) -> events.Ended:
    """Run a job to its end and tell `listen` all that happens; the last event is returned too.

    Raises:
        ConfigError, DiskFullError: the run cannot be started on this machine.
    """
    began = time.monotonic()
    deadline_at = None if request.deadline_seconds is None else began + request.deadline_seconds
    with stopping.stop_requests(deadline_at) as stops:
        ended = _Run(request, listen, stops, began).run()
    listen(ended)
    return ended


class _Run:
    def __init__(
        self, request: RunRequest, listen: events.Listener, stops: stopping.StopRequests, began: float
    ) -> None:
        self._request = request
        self._listen = listen
        self._stops = stops
        self._began = began
        self._tracker = tracking.ProgressTracker(request.job.spec.workers)
        self._restarts = 0
        self._replaced = 0
        self._failures_in_a_row = 0

    def run(self) -> events.Ended:
        request = self._request
        request.folder.make(request.job.spec.workers)
        self._listen(
            events.Started(
                run_id=request.run_id,
                job=request.job.metadata.name,
                workers=request.job.spec.workers,
                epochs=request.job.spec.training.epochs,
                folder=str(request.folder.path),
                output_uri=request.job.spec.output.uri,
                is_resumed=request.is_resumed,
            )
        )
        while True:
            highest_before = self._tracker.highest_step
            verdict, chief = self._attempt()
            has_progressed = self._tracker.highest_step > highest_before
            self._failures_in_a_row = 1 if has_progressed else self._failures_in_a_row + 1
            code = policy.conclude(
                verdict,
                is_stopping=self._is_stopping(),
                restarts=self._restarts_of_any_kind(),
                max_restarts=request.job.spec.recovery.max_restarts,
                failures_in_a_row=self._failures_in_a_row,
            )
            if code is not None:
                return self._ended(code, verdict, chief)
            self._restarts += 1
            self._wait_before_restart(verdict)
            if self._is_stopping():
                return self._ended(ExitCode.PREEMPTED, verdict, None)

    def _restarts_of_any_kind(self) -> int:
        """Return what counts against `spec.recovery.maxRestarts`.

        The coordinator tells of a recovery when a worker was replaced, unless no generation ran at that time.
        """
        return self._restarts + max(self._tracker.recoveries, self._replaced)

    def _may_replace(self) -> bool:
        return self._restarts_of_any_kind() < self._request.job.spec.recovery.max_restarts

    def _is_stopping(self) -> bool:
        return self._stops.count(time.monotonic()) > 0

    def _attempt(self) -> tuple[policy.Verdict, progress.WorkerOutcome | None]:
        group = self._plan()
        self._tracker.forget_attempt()
        self._request.folder.write_config(worker_config.dump_worker_config(group.config))
        with (
            attempt.Attempt(group, self._request.folder, self._request.environment, self._may_replace) as current,
            polling.ProgressPoller(group.config.endpoints) as poller,
        ):
            stops_heeded = 0
            while not current.tick(time.monotonic(), self._tracker.phase):
                self._tell_replacements(current)
                for event in self._tracker.observe(poller.newest(), self._restarts):
                    self._listen(event)
                while stops_heeded < self._stops.count(time.monotonic()):
                    stops_heeded += 1
                    patience = policy.stop_seconds(stops_heeded, has_started=self._tracker.phase != "starting")
                    current.stop(time.monotonic(), patience)
                    self._listen(events.Stopping(cause=self._stops.cause, request=stops_heeded))
                time.sleep(_TICK_SECONDS)
            self._tell_replacements(current)
            chief = current.outcome(policy.CHIEF)
            for recovered in self._tracker.conclude(chief):
                self._listen(recovered)
            return policy.judge(current.ends), chief

    def _tell_replacements(self, current: attempt.Attempt) -> None:
        for each in current.take_replacements():
            self._replaced += 1
            self._listen(events.Replaced(rank=each.rank, message=each.message, delay_seconds=each.delay_seconds))

    def _plan(self) -> plan.WorkerGroupPlan:
        spec = self._request.job.spec
        return plan.plan_worker_group(
            self._request.job,
            run_id=self._request.run_id,
            endpoints=placement.loopback_endpoints(spec.workers),
            config_path=str(self._request.folder.config),
            environment={names.ENV_LOG_FORMAT: self._request.environment.get(names.ENV_LOG_FORMAT, "text")},
        )

    def _wait_before_restart(self, verdict: policy.Verdict) -> None:
        delay_seconds = policy.backoff_seconds(self._failures_in_a_row)
        self._listen(
            events.Restarted(
                restart=self._restarts,
                max_restarts=self._request.job.spec.recovery.max_restarts,
                reason=verdict.outcome.reason,
                rank=verdict.rank,
                message=verdict.message,
                resume_step=self._tracker.checkpoint_step,
                delay_seconds=delay_seconds,
            )
        )
        until = time.monotonic() + delay_seconds
        while time.monotonic() < until and not self._is_stopping():
            time.sleep(_TICK_SECONDS)

    def _ended(self, code: ExitCode, verdict: policy.Verdict, chief: progress.WorkerOutcome | None) -> events.Ended:
        is_fault = code not in (ExitCode.DONE, ExitCode.PREEMPTED)
        return events.Ended(
            run_id=self._request.run_id,
            exit_code=code,
            reason=exit_codes.OUTCOMES[code].reason,
            message=verdict.message if is_fault else self._stops.cause if code is ExitCode.PREEMPTED else "",
            rank=verdict.rank if is_fault else None,
            log=str(self._request.folder.log(verdict.rank if is_fault else policy.CHIEF)),
            checkpoint_step=self._tracker.checkpoint_step,
            manifest_uri=chief.manifest_uri if chief and code is ExitCode.DONE else None,
            summary=chief.summary if chief and code is ExitCode.DONE else {},
            restarts=self._restarts,
            recoveries=self._tracker.recoveries,
            replaced=self._replaced,
            seconds=time.monotonic() - self._began,
        )
