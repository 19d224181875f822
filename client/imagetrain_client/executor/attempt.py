"""One start of the whole group: from its first process to the end of its last.

A worker that was lost starts anew in its place (`replacing`), and the others wait for it. Else a group ends as a whole:
when a worker ends, the others get a moment to end by themselves, then they are asked to, then made to. When somebody
asks the run to stop, every worker is asked once to save, and made to end if that is asked again.
"""

import contextlib
import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from imagetrain_api import names, plan, schema
from imagetrain_api import progress as progress_module
from imagetrain_client.executor import folders, placement, policy, processes, replacing


class Attempt:
    """The processes of one group; a context manager that leaves none of them behind."""

    def __init__(
        self,
        group: plan.WorkerGroupPlan,
        folder: folders.RunFolder,
        environment: Mapping[str, str],
        may_replace: Callable[[], bool],
    ) -> None:
        """Prepare; `may_replace` tells whether another lost worker may start anew."""
        self._group = group
        self._folder = folder
        self._environment = environment
        self._running: dict[int, processes.WorkerProcess] = {}
        self._ends: dict[int, policy.WorkerEnd] = {}
        self._ended_here: set[int] = set()
        self._command: Sequence[str] = ()
        needed = group.config.job.spec.recovery.min_workers or group.workers
        self._replacements = replacing.Replacements(group.workers, needed, may_replace)
        self._lost: dict[int, tuple[policy.WorkerEnd, float]] = {}  # those to be replaced, and when
        self._untold: list[replacing.Replacement] = []
        self._kill_at = math.inf
        self._is_stopping = False

    def __enter__(self) -> Self:
        self._command = processes.resolve_command(self._group.command)
        with contextlib.ExitStack() as undo:
            undo.callback(self._kill_all)
            for rank in range(self._group.workers):
                self._start(rank)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._kill_all()

    @property
    def ends(self) -> Sequence[policy.WorkerEnd]:
        """The ends so far, in the order of ranks."""
        return [self._ends[rank] for rank in sorted(self._ends)]

    def outcome(self, rank: int) -> progress_module.WorkerOutcome | None:
        """Return what a worker wrote about its own end, if it got so far."""
        try:
            document = json.loads(self._folder.outcome(rank).read_text(encoding="utf-8"))
            return schema.decode(progress_module.WorkerOutcome, document)
        except (OSError, ValueError):
            return None

    def take_replacements(self) -> list[replacing.Replacement]:
        """Return the workers that are started anew, each once."""
        taken, self._untold = self._untold, []
        return taken

    def tick(self, now: float, chief_phase: str) -> bool:
        """Note which workers have ended, end the others when their time is up, and tell whether none is left."""
        for rank, worker in list(self._running.items()):
            status = worker.poll()
            if status is not None:
                self._note_end(rank, status, now)
        self._replace_lost(now)
        if self._running and self._ends and not self._is_stopping:
            first = min(end.at_seconds for end in self._ends.values())
            if now >= first + policy.patience_seconds(self.ends, chief_phase):
                self._end_remaining(now)
        if now >= self._kill_at:
            self._kill_all()
            for rank, worker in list(self._running.items()):
                self._note_end(rank, worker.poll() or 0, now)
        return not self._running and not self._lost

    def stop(self, now: float, patience_seconds: float) -> None:
        """Ask every worker to save and end, and end those that have not after `patience_seconds`."""
        self._for_each(processes.WorkerProcess.terminate)
        self._kill_at = now + patience_seconds
        self._is_stopping = True

    def _end_remaining(self, now: float) -> None:
        if math.isinf(self._kill_at):
            self._ended_here.update(self._running)
            self._for_each(processes.WorkerProcess.terminate)
            self._kill_at = now + policy.TERMINATE_SECONDS

    def _note_end(self, rank: int, status: int, now: float) -> None:
        self._running.pop(rank).kill()  # and what it may have left in its process group
        outcome = self.outcome(rank)
        has_word = outcome is not None and outcome.exit_code == status
        end = policy.WorkerEnd(
            rank=rank,
            status=status,
            at_seconds=now,
            was_ended=rank in self._ended_here,
            message=outcome.message if outcome and has_word else "",
            has_word=has_word,
        )
        replacement = None if self._is_ending() else self._replacements.decide(end)
        if replacement is None:
            self._ends[rank] = end
        else:
            self._lost[rank] = (end, now + replacement.delay_seconds)
            self._untold.append(replacement)

    def _is_ending(self) -> bool:
        return bool(self._ends) or self._is_stopping

    def _replace_lost(self, now: float) -> None:
        """Start lost workers whose time has come; where the group ends meanwhile, their ends are a part of that."""
        for rank, (end, starts_at) in list(self._lost.items()):
            if self._is_ending():
                del self._lost[rank]
                self._ends[rank] = end
            elif now >= starts_at:
                del self._lost[rank]
                self._start(rank)
                self._replacements.note_start(rank, now)

    def _start(self, rank: int) -> None:
        self._folder.outcome(rank).unlink(missing_ok=True)  # of the worker before
        environment = self._worker_environment(rank)
        self._running[rank] = processes.WorkerProcess(rank, self._command, environment, self._folder.log(rank))

    def _kill_all(self) -> None:
        self._ended_here.update(self._running)
        self._for_each(processes.WorkerProcess.kill)

    def _for_each(self, action: Callable[[processes.WorkerProcess], None]) -> None:
        for worker in self._running.values():
            action(worker)

    def _worker_environment(self, rank: int) -> dict[str, str]:
        spec = self._group.config.job.spec
        return {
            **self._environment,
            **placement.worker_environment(rank, self._group.workers, spec.worker.gpus, self._environment),
            **self._group.environment,
            names.ENV_RANK: str(rank),
            names.ENV_WORK_DIR: str(self._folder.scratch(rank)),
            names.ENV_TERMINATION_MESSAGE: str(self._folder.outcome(rank)),
        }
