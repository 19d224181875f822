"""Entry point `imagetrain-worker`: supervises one training process and tells the world how it fares."""

import contextlib
import ctypes
import logging
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from imagetrain_api import exit_codes, names, progress
from imagetrain_trainer import errors
from imagetrain_trainer.worker import (
    environment,
    logs,
    metrics,
    outcomes,
    process_state,
    progress_block,
    status_server,
    watchdog,
)

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1  # prctl(2)
# When a parent with threads is killed, the kernel sends the parent-death signal once for each thread that inherits the
# child on the way, so one death may be told twice within milliseconds. Nobody asks twice that fast.
_ONE_REQUEST_SECONDS = 0.5


def main() -> None:
    """Run one worker; the exit status is an `imagetrain_api.exit_codes.ExitCode`."""
    try:
        worker = environment.read_environment(os.environ)
    except errors.TrainerError as error:
        _tell(os.environ.get(names.ENV_TERMINATION_MESSAGE), outcomes.build_outcome(error.exit_code, str(error)))
        sys.stderr.write(f"imagetrain-worker: {error}\n")
        sys.exit(error.exit_code)
    logs.configure(worker.log_format, worker.rank)
    outcome = Supervisor(worker).run()
    _tell(worker.termination_path, outcome)
    level = logging.INFO if outcome.exit_code == exit_codes.ExitCode.DONE else logging.ERROR
    logger.log(level, "%s: %s", outcome.reason, outcome.message)
    sys.exit(outcome.exit_code)


class Supervisor:
    """Starts the training process, watches it, passes signals on, and turns its end into an outcome."""

    def __init__(self, worker: environment.WorkerEnvironment) -> None:
        self._worker = worker
        self._block_path = worker.work_dir / "progress.block"
        self._outcome_path = worker.work_dir / "outcome.json"
        self._signals = 0
        self._signalled_at = -math.inf
        self._process: subprocess.Popen[bytes] | None = None
        self._block: progress_block.ProgressBlock | None = None

    def run(self) -> progress.WorkerOutcome:
        """Run the training process to its end."""
        self._outcome_path.unlink(missing_ok=True)
        block = self._block = progress_block.ProgressBlock(self._block_path, create=True)
        with self._signals_forwarded(), self._status_served(block):
            self._process = self._start()
            hang = self._watch(self._process, block)
            return self._judge(self._process.wait(), hang)

    @contextlib.contextmanager
    def _status_served(self, block: progress_block.ProgressBlock) -> Iterator[None]:
        endpoint, metadata = self._worker.endpoint, self._worker.config.job.metadata
        registry = metrics.build_registry(metadata.namespace, metadata.name, block.read)
        server = status_server.StatusServer(endpoint.host, endpoint.status_port, block.read, registry)
        try:
            yield
        finally:
            server.close()

    @contextlib.contextmanager
    def _signals_forwarded(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _forward(self, _number: int, _frame: object) -> None:
        now = time.monotonic()
        if now - self._signalled_at < _ONE_REQUEST_SECONDS:
            return
        self._signals, self._signalled_at = self._signals + 1, now
        if self._process is not None and self._process.poll() is None:
            is_urgent = self._signals > 1 or self._is_starting()
            self._process.send_signal(signal.SIGKILL if is_urgent else signal.SIGTERM)

    def _is_starting(self) -> bool:
        """Tell whether there is nothing to save yet; a process that waits for its peers hears no polite signal."""
        return self._block is None or self._block.read().phase == "starting"

    def _start(self) -> subprocess.Popen[bytes]:
        # TensorFlow leaves traced functions in the temporary folder of a process that ends without its clean-up.
        temporary = self._worker.work_dir / "tmp"
        temporary.mkdir(exist_ok=True)
        variables = {
            **os.environ,
            "TMPDIR": str(temporary),
            environment.ENV_PROGRESS_BLOCK: str(self._block_path),
            environment.ENV_OUTCOME: str(self._outcome_path),
        }
        command = [sys.executable, "-m", "imagetrain_trainer.training.main"]
        # A session of its own keeps a terminal's Ctrl-C from reaching it twice.
        process = subprocess.Popen(command, env=variables, start_new_session=True, preexec_fn=_die_with_parent)  # noqa: PLW1509 - one thread, and prctl is async-signal-safe
        if self._signals:
            process.send_signal(signal.SIGTERM)
        return process

    def _watch(self, process: subprocess.Popen[bytes], block: progress_block.ProgressBlock) -> watchdog.Verdict | None:
        watch = watchdog.Watch(self._worker.config.job.spec.recovery, started_at=time.monotonic())
        while process.poll() is None:
            verdict = watch.observe(block.read(), process_state.read_process(process.pid), time.monotonic())
            if verdict is not None:
                process.kill()
                return verdict
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
        return None

    def _judge(self, status: int, hang: watchdog.Verdict | None) -> progress.WorkerOutcome:
        if hang is not None:
            return outcomes.build_outcome(exit_codes.ExitCode.HUNG, hang.message)
        written = outcomes.read_outcome(self._outcome_path)
        if written is not None and written.exit_code == status:
            return written
        if self._signals and status == -signal.SIGKILL:
            message = "Stopped at once; what was trained since the last checkpoint is lost."
            if self._is_starting():
                message = "Stopped before the first step; nothing is lost."
            return outcomes.build_outcome(exit_codes.ExitCode.PREEMPTED, message)
        if status < 0:
            name = signal.Signals(-status).name
            hint = " The kernel sends it when memory runs out." if -status == signal.SIGKILL else ""
            message = f"The training process was ended by {name}.{hint}"
            return outcomes.build_outcome(exit_codes.ExitCode.INTERNAL, message)
        message = f"The training process ended with status {status} and no word; its log has more."
        return outcomes.build_outcome(exit_codes.ExitCode.INTERNAL, message)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tell(path: str | pathlib.Path | None, outcome: progress.WorkerOutcome) -> None:
    if path:
        try:
            outcomes.write_outcome(pathlib.Path(path), outcome)
        except OSError as error:
            sys.stderr.write(f"imagetrain-worker: cannot write {path}: {error.strerror}\n")


if __name__ == "__main__":
    main()
