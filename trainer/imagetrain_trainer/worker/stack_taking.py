"""The stacks of a training process that is suspected to hang, and their way into the run's storage."""

import contextlib
import logging
import os
import subprocess
import threading
from collections.abc import Mapping

from imagetrain_trainer.worker import environment, incidents, stack_text, stacks

logger = logging.getLogger(__name__)


class StackTaking:
    """Takes the stacks on a thread, for it takes seconds, and then uploads them; it may outlive its process."""

    def __init__(
        self, worker: environment.WorkerEnvironment, pid: int, generation: int, variables: Mapping[str, str]
    ) -> None:
        """Begin.

        Args:
            worker: this supervisor's.
            pid: the training process.
            generation: its number.
            variables: the supervisor's environment.
        """
        self._worker = worker
        self._pid = pid
        self._generation = generation
        self._key = incidents.build_key(generation, worker.rank, worker.incarnation)
        self._variables = variables
        self._taken: stack_text.StackDump | None = None
        self._thread = threading.Thread(target=self._take, name="stacks", daemon=True)
        self._upload: subprocess.Popen[bytes] | None = None
        self._is_stored = False
        self.dump: stack_text.StackDump | None = None
        self._head = ""
        self._thread.start()

    def _take(self) -> None:
        try:
            self._taken = stacks.take(self._pid, self._worker.work_dir)
        except OSError as error:
            self._taken = stack_text.StackDump(text=f"The stacks could not be taken: {error}.\n")

    def tick(self) -> None:
        """Start the upload when there is something, and notice its end."""
        if self.dump is None and self._taken is not None:
            self.dump = self._taken
            self._head = stack_text.head(self.dump.text)
            logger.warning("stacks of process %d: %s", self._pid, self._head or "nothing to tell")
            self._start_upload(self.dump)
        elif self._upload is not None and self._upload.poll() is not None:
            self._is_stored = self._upload.returncode == 0  # its own log tells of a failure
            self._upload = None

    def _start_upload(self, dump: stack_text.StackDump) -> None:
        try:
            self._upload = incidents.start_upload(
                dump,
                self._worker.work_dir,
                key=self._key,
                variables=self._variables,
            )
        except OSError as error:
            logger.warning("the stacks cannot be kept: %s", os.strerror(error.errno or 0))

    @property
    def is_under_way(self) -> bool:
        """Whether the stacks are still being taken or uploaded."""
        return self.dump is None or self._upload is not None

    def close(self, seconds: float) -> None:
        """Wait a moment for the upload."""
        if self._upload is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on where the container lets it
                self._upload.wait(seconds)

    def describe(self) -> dict[str, object]:
        """Return the fields of a report that tell of the stacks: where they lie only once they lie there."""
        if self.dump is None:
            return {}
        config, uri = self._worker.config, None
        if self._is_stored:
            uri = incidents.build_uri(config.job, config.run_id, self._key)
        return {"dump_generation": self._generation, "dump_uri": uri, "dump_head": self._head}
