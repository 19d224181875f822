"""One `imagetrain run` in processes of its own: its events as they come, its processes, its figures, its end."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sysconfig
import threading
import time
import types
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

from imagetrain_api import names
from imagetrain_chaos import gate, records, run_processes

COMMAND = pathlib.Path(sysconfig.get_path("scripts")) / "imagetrain"
POLL_SECONDS = 0.05
_PACKAGES = pathlib.Path(__file__).parents[1]

T = TypeVar("T")


class RunFailedError(Exception):
    """A run did not do what the test waits for."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a run.

    Attributes:
        manifest: the job.
        folder: where the run keeps its files; it does not exist yet.
        gate: made already.
        prefix: words before the command, such as those that give it namespaces of its own.
        command: what to run instead of `imagetrain`.
        environment: added to this process's own; PYTHONPATH is joined.
        arguments: more words for `imagetrain run`.
        has_own_mounts: whether the run's folder is reached through its processes alone.
    """

    manifest: pathlib.Path
    folder: pathlib.Path
    gate: gate.GateFolder
    prefix: Sequence[str] = ()
    command: Sequence[str] = (str(COMMAND),)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    arguments: Sequence[str] = ()
    has_own_mounts: bool = False


class Run:
    """A started run; a context manager that ends what is left of it."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        launch.folder.mkdir(parents=True, exist_ok=True)
        self._errors = launch.folder / "stderr.txt"
        self.events: list[dict[str, Any]] = []
        self.metrics: dict[int, str] = {}
        """The newest answer of each rank's /metrics."""
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str]
        self._threads: list[threading.Thread] = []
        self._held: int | None = None
        self.ports: set[int] = set()
        """Every port on which the run's workers were told to listen."""

    def __enter__(self) -> Self:
        launch = self._launch
        words = [*launch.prefix, *launch.command, "run", str(launch.manifest), "--json"]
        words += ["--work-dir", str(launch.folder / "runs"), *launch.arguments]
        with self._errors.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                words,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        for work in (self._follow, self._scrape):
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self.events:
            for process in self.processes():
                process.send(signal.SIGKILL)
        for thread in self._threads:
            thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._held is not None:
            os.close(self._held)

    def _environment(self) -> dict[str, str]:
        launch = self._launch
        own = [str(_PACKAGES), str(_PACKAGES.parent / "cluster")]  # as pytest's own path, which no subprocess has
        path = [launch.environment.get("PYTHONPATH"), *own, os.environ.get("PYTHONPATH")]
        return {
            **os.environ,
            gate.ENV_FOLDER: str(launch.gate.path),
            **launch.environment,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
        }

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
            if self._launch.has_own_mounts and self._held is None:
                # An open folder keeps its file system: logs can be read when the last process has ended.
                self._held = os.open(f"/proc/{self.pid}/root{self.folder}", os.O_RDONLY | os.O_DIRECTORY)

    def _scrape(self) -> None:
        """Keep the newest metrics of each rank that answers from here."""
        while self._process.poll() is None:
            for rank, endpoint in enumerate(self._endpoints()):
                self.ports.update(value for key, value in endpoint.items() if key.endswith("Port"))
                url = f"http://{endpoint['host']}:{endpoint['statusPort']}{names.PATH_METRICS}"
                with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
                    self.metrics[rank] = answer.read().decode()
            time.sleep(0.5)

    def _endpoints(self) -> list[dict[str, Any]]:
        if not self.events:
            return []
        with contextlib.suppress(OSError, ValueError):
            found: list[dict[str, Any]] = json.loads((self.reached / "worker.json").read_bytes())["endpoints"]
            return found
        return []

    @property
    def pid(self) -> int:
        """The command's process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether the command has not ended."""
        return self._process.poll() is None

    @property
    def folder(self) -> pathlib.Path:
        """The run's own folder, once it has started."""
        return pathlib.Path(self.events[0]["folder"])

    @property
    def reached(self) -> pathlib.Path:
        """The run's own folder, as it is reached from here."""
        return self.folder if self._held is None else pathlib.Path(f"/proc/self/fd/{self._held}")

    @property
    def run_id(self) -> str:
        """Identity of the run, once it has started."""
        return str(self.events[0]["runId"])

    @property
    def step(self) -> int:
        """Newest step that the run told of."""
        return max((event["progress"]["step"] for event in self._progresses()), default=0)

    def _progresses(self) -> list[dict[str, Any]]:
        return [event for event in list(self.events) if event["event"] == "progress"]

    def _is_going_on(self) -> bool:
        """Tell whether the newest attempt is past its start."""
        newest = [event for event in list(self.events) if event["event"] in ("progress", "restarted")][-1]
        return bool(newest["event"] == "progress" and newest["progress"]["phase"] != "starting")

    def failures(self) -> list[records.Record]:
        """Return the failures that the run told of so far."""
        return records.collect(list(self.events))

    def processes(self) -> list[run_processes.RunProcess]:
        """Return the run's workers and all that they started."""
        return run_processes.find(self.folder)

    def supervisor(self, rank: int) -> run_processes.RunProcess:
        """Return a rank's supervisor, waiting for it where it is just being started."""
        return self.wait_for(lambda: run_processes.supervisor(self.folder, rank), f"a supervisor of rank {rank}")

    def training(self, rank: int) -> run_processes.RunProcess:
        """Return a rank's training process, waiting for it where it is just being started."""
        return self.wait_for(lambda: run_processes.training(self.folder, rank), f"a training process of rank {rank}")

    def wait_for_step(self, step: int, timeout_seconds: float = 120) -> None:
        """Wait until the run has told of a step."""
        self.wait_for(lambda: self.step >= step, f"step {step}", timeout_seconds)

    def wait_for_next_step(self) -> None:
        """Wait until the run has told of a further step, if it has one left."""
        total = max((event["progress"]["totalSteps"] for event in self._progresses()), default=0)
        self.wait_for_step(min(self.step + 1, total or self.step + 1))

    def wait_until_over(self) -> None:
        """Wait until the run has got over its newest failure; what is told of two at once may be one record."""
        self.wait_for(lambda: not (found := self.failures()) or found[-1].is_over, "the end of the newest failure", 90)

    def has_stepped(self) -> bool:
        """Tell whether the chief's process has finished a step, from what it tells of now."""
        seen = len(self._progresses())
        self.wait_for(lambda: len(self._progresses()) > seen + 1, "progress")  # one may have been on its way
        return bool(self._progresses()[-1]["progress"]["images"] > 0)

    def wait_for_record(self, count: int, timeout_seconds: float = 90) -> records.Record:
        """Wait until the run has told of its `count`-th failure and goes on behind its newest; return that one."""

        def find() -> records.Record | None:
            found = self.failures()
            if len(found) < count or not found[-1].is_over:
                return None
            return found[count - 1] if self._is_going_on() else None

        return self.wait_for(find, f"failure {count} and what follows it", timeout_seconds)

    def wait_for(self, attempt: Callable[[], T | None], what: str, timeout_seconds: float = 60) -> T:
        """Call `attempt` until it returns something true, and return that.

        Raises:
            RunFailedError: the run ended first, or it took too long.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            has_ended = self._process.poll() is not None
            if result := attempt():
                return result
            if has_ended:
                raise RunFailedError(f"the run ended with {self._process.returncode} before {what}:\n{self.explain()}")
            if time.monotonic() > deadline:
                raise RunFailedError(f"{what} did not come within {timeout_seconds:g} s:\n{self.explain()}")
            with self._changed:
                self._changed.wait(POLL_SECONDS)

    def wait_to_end(self, timeout_seconds: float = 180) -> dict[str, Any]:
        """Wait for a good end and return its event.

        Raises:
            RunFailedError: the run failed, or takes too long.
        """
        try:
            status = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise RunFailedError(f"the run did not end within {timeout_seconds:g} s:\n{self.explain()}") from error
        for thread in self._threads:
            thread.join()
        if status != 0 or self.events[-1]["event"] != "finished":
            raise RunFailedError(f"the run ended with {status}:\n{self.explain()}")
        return self.events[-1]

    def send(self, number: int) -> None:
        """Send a signal to the command."""
        self._process.send_signal(number)

    def explain(self) -> str:
        """Return what a reader of a failed test needs: the last events, stderr, and the ends of the logs."""
        parts = [json.dumps(event)[:400] for event in self.events[-4:]]
        parts += [json.dumps(event) for event in self.events if event["event"] == "restarted"]
        parts += [str(record) for record in self.failures()]
        parts.append(self._errors.read_text(encoding="utf-8")[-2000:])
        if self.events:
            parts += [f"--- {log.name}\n{log.read_text()[-2500:]}" for log in sorted(self.reached.glob("logs/*.log"))]
        return "\n".join(parts)
