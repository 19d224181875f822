"""The training process of one generation on this worker: its start, its reports, its stacks, its end."""

import contextlib
import logging
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Mapping

from imagetrain_api import exit_codes, names, progress, schema
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.worker import (
    environment,
    out_of_memory,
    outcomes,
    process_state,
    progress_block,
    silence,
    stack_taking,
    stack_text,
    stacks,
    training_process,
    watchdog,
)

logger = logging.getLogger(__name__)

ExitCode = exit_codes.ExitCode

_LEAST_FREE_BYTES = 64 << 10  # what the end of a process gives back when its disk was full


class Generation:
    """One start of the training process."""

    def __init__(
        self,
        worker: environment.WorkerEnvironment,
        order: messages.Order,
        starter: training_process.Starter,
        variables: Mapping[str, str],
        *,
        run_times: silence.RunTimes,
        now: float,
    ) -> None:
        """Start it.

        Args:
            worker: this supervisor's.
            order: names the generation and its members.
            starter: starts the process.
            variables: the supervisor's environment.
            run_times: of the generations before, and given those of this one.
            now: monotonic clock, as of `tick`.

        Raises:
            StartError: it cannot be started.
            OSError: the work folder is full.
        """
        self.number = order.generation
        self._worker = worker
        self._variables = variables
        self._outcome_path = worker.work_dir / "outcome.json"
        self._outcome_path.unlink(missing_ok=True)
        self._temporary().mkdir(exist_ok=True)
        self._block_path = worker.work_dir / "progress.block"
        self._block = progress_block.ProgressBlock(self._block_path, create=True)
        self._memory_kills = out_of_memory.KillCounter()
        self._watch = watchdog.Watch(worker.config.job.spec.recovery, run_times, started_at=now)
        self.stacks: stack_taking.StackTaking | None = None
        self._is_asked = False
        # What the supervisor knows better than the process: its rank is that of the full group.
        self._identity = {"rank": worker.rank, "generation": self.number, "workers": len(order.members)}
        self.report = progress.Progress(rank=worker.rank, generation=self.number, workers=len(order.members))
        self.verdict: watchdog.Verdict | None = None
        self.outcome: progress.WorkerOutcome | None = None
        self.status: int | None = None
        self._process = starter.start(self._build_variables(order))

    def tick(self, now: float) -> None:
        """Look at the process."""
        is_new = self.status is None
        self.status = self._process.poll()
        with contextlib.suppress(TimeoutError):  # a report that cannot be read leaves the one before
            found = self._block.read()
            self.report = schema.replace(found, **self._identity)
        if self.status is None:
            self.verdict = self._watch.observe(self.report, process_state.read_process(self._process.pid), now)
        elif is_new:
            self.verdict, self.outcome = None, self._explain(self.status)

    @property
    def is_running(self) -> bool:
        """Whether the process was there at the last `tick`."""
        return self.status is None

    @property
    def silent_seconds(self) -> float:
        """Seconds since the process's newest beat."""
        return self._watch.silent_seconds

    @property
    def dump(self) -> stack_text.StackDump | None:
        """Its stacks, once they are taken."""
        return self.stacks.dump if self.stacks is not None else None

    def take_stacks(self) -> None:
        """Begin to take the stacks, once."""
        if self.stacks is None:
            self.stacks = stack_taking.StackTaking(self._worker, self._process.pid, self.number, self._variables)

    def forget_stacks(self) -> None:
        """Be ready to take others: what was suspected did not hold, and the process has gone on."""
        self.stacks = None

    def ask_to_stop(self) -> None:
        """Ask the process, once, to save and end together with its peers."""
        if not self._is_asked:
            self._is_asked = True
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process now; `tick` sees its end."""
        self._process.kill()

    def close(self, seconds: float) -> None:
        """End the process and what belongs to it, and wait for it a moment."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # in an uninterruptible call: it ends with its container
            self._process.wait(seconds)

    def _temporary(self) -> pathlib.Path:
        # TensorFlow leaves traced functions in the temporary folder of a process that ends without its clean-up.
        return self._worker.work_dir / "tmp"

    def _build_variables(self, order: messages.Order) -> dict[str, str]:
        variables = {
            **self._variables,
            "TMPDIR": str(self._temporary()),
            environment.ENV_PROGRESS_BLOCK: str(self._block_path),
            environment.ENV_OUTCOME: str(self._outcome_path),
            names.ENV_RANK: str(order.rank_of(self._worker.rank)),
            names.ENV_GENERATION: str(order.generation),
            names.ENV_INCARNATION: self._worker.incarnation,
            names.ENV_MEMBERS: environment.encode_members(order.members),
            names.ENV_STACK_FILE: str(self._worker.work_dir / stacks.STACK_FILE),
            names.ENV_LOG_FORMAT: "json",  # the supervisor's log has the format that was asked for
        }
        if order.skip_steps:
            variables[names.ENV_SKIP_STEPS] = ",".join(map(str, order.skip_steps))
        if order.careful_steps:
            variables[names.ENV_CAREFUL_STEPS] = ",".join(map(str, order.careful_steps))
        if order.resume_step is not None:
            variables[names.ENV_RESUME_STEP] = str(order.resume_step)
        return variables

    def _explain(self, status: int) -> progress.WorkerOutcome:
        """Return what the end of the process means."""
        written = outcomes.read_outcome(self._outcome_path)
        if written is not None and written.exit_code == status:
            return written
        if status == -signal.SIGKILL and self._memory_kills.has_risen():
            message = f"The training process used too much memory at step {self.report.step}, and the kernel killed it."
            return outcomes.build_outcome(ExitCode.OUT_OF_MEMORY, message)
        if status in (1, -signal.SIGBUS) and _is_full(self._worker.work_dir):
            # It could not even write its outcome, or touch a page of a mapped file.
            message = f"The training process ended with status {status}: no space is left in {self._worker.work_dir}."
            return outcomes.build_outcome(ExitCode.DISK_FULL, message)
        if status < 0:
            message = f"The training process was ended by {signal.Signals(-status).name}."
            return outcomes.build_outcome(ExitCode.INTERNAL, message)
        message = f"The training process ended with status {status} and no word; its log has more."
        return outcomes.build_outcome(ExitCode.INTERNAL, message)

    @property
    def exit_code(self) -> int | None:
        """How the process ended, for a report: its signal where no more is known than that."""
        if self.status is None or self.outcome is None:
            return None
        is_plain_signal = self.status < 0 and self.outcome.exit_code == ExitCode.INTERNAL
        return self.status if is_plain_signal else self.outcome.exit_code


def _is_full(folder: pathlib.Path) -> bool:
    return shutil.disk_usage(folder).free < _LEAST_FREE_BYTES
