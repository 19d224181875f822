"""An HTTP proxy in front of an S3 server that delays, stalls, breaks and damages the answers to GETs of objects.

It forwards requests byte for byte, so signatures stay valid: clients sign for the proxy's own address. It runs as a
process of its own (`fault_proxy_process.py`) and ends with its context, or with the process that holds it. Nothing here
knows pytest.

    with fault_proxy.running(server) as proxy:
        proxy.set(first_byte_delay_seconds=0.15, stall_fraction=0.01, stall_seconds=2)
        ... proxy.server is the S3 server at the proxy's address ...
        proxy.counts()["stalls"]

Which requests are hit is drawn from the seed, the key, the range and how often that range was asked for before:
another run that asks for the same ranges meets the same faults, in whatever order it asks.
"""

import collections.abc
import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import threading
from typing import Any, Generic, TypeVar

import s3_servers

_PROCESS = pathlib.Path(__file__).with_name("fault_proxy_process.py")
_STOP_TIMEOUT_SECONDS = 10.0

Server = TypeVar("Server", bound=s3_servers.S3Server)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What the proxy does. Fractions are of the GETs of objects; the first one that hits a request is the only one."""

    seed: int = 0
    """Of the draws."""
    first_byte_delay_seconds: float = 0.0
    """Every GET of an object is forwarded so much later."""
    first_byte_jitter_seconds: float = 0.0
    """At most so much more, uniform."""
    bytes_per_second: float = 0.0
    """Of all answers together; 0 is no limit."""
    connection_bytes_per_second: float = 0.0
    """Of the answers on each connection; 0 is no limit."""
    stall_fraction: float = 0.0
    """GETs that are forwarded `stall_seconds` later."""
    body_stall_fraction: float = 0.0
    """GETs whose body stops in its middle for `stall_seconds`."""
    stall_seconds: float = 2.0
    """How long a stall takes."""
    slow_down_fraction: float = 0.0
    """GETs answered 503 SlowDown."""
    error_fraction: float = 0.0
    """GETs answered 500 InternalError."""
    reset_fraction: float = 0.0
    """GETs whose connection is reset, half of them before the answer and half in the middle of the body."""
    truncate_fraction: float = 0.0
    """GETs whose connection is closed in the middle of the body."""
    flip_fraction: float = 0.0
    """GETs whose body has one wrong byte."""
    is_down: bool = False
    """Every connection is reset, whatever it asks."""
    is_silent: bool = False
    """Requests are taken and never answered."""


class FaultProxy(Generic[Server]):
    """A running proxy. Thread-safe."""

    def __init__(self, process: "subprocess.Popen[str]", server: Server) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._faults = Faults()
        port = self._read()["port"]
        self.server: Server = dataclasses.replace(server, endpoint_url=f"http://127.0.0.1:{port}")
        """The S3 server, through the proxy."""

    @property
    def pid(self) -> int:
        """The proxy's process."""
        return self._process.pid

    @property
    def faults(self) -> Faults:
        """What is set now."""
        return self._faults

    def set(self, **faults: Any) -> None:
        """Change the named fields of `Faults`; requests that come after the return meet the new ones."""
        with self._lock:
            self._faults = dataclasses.replace(self._faults, **faults)
            self._ask({"set": dataclasses.asdict(self._faults)})

    def clear(self) -> None:
        """Forward everything as it is."""
        with self._lock:
            self._faults = Faults()
            self._ask({"set": dataclasses.asdict(self._faults)})

    def counts(self) -> dict[str, int]:
        """Return how many `connections`, `requests`, `gets` (of objects) and faults by name there were so far.

        The faults are `stalls`, `body_stalls`, `slow_downs`, `errors`, `resets`, `truncations`, `flips`, `refusals` and
        `silences`; `body_bytes` went to clients; `open_connections` is of now and `most_open_connections` of all time.
        """
        with self._lock:
            return {name: int(value) for name, value in self._ask({"counts": True}).items()}

    def cpu_seconds(self) -> float:
        """Return the processor time that the proxy has taken."""
        with self._lock:
            return float(self._ask({"cpu": True})["cpu_seconds"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise s3_servers.S3ServerError(f"the fault proxy ended with exit code {self._process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def running(server: Server) -> collections.abc.Iterator[FaultProxy[Server]]:
    """Run a proxy in front of `server` until the context ends."""
    upstream = server.endpoint_url.removeprefix("http://")
    process = subprocess.Popen(
        [sys.executable, str(_PROCESS), upstream], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:  # which closes its standard input, and so ends it
        try:
            yield FaultProxy(process, server)
        finally:
            process.terminate()
            process.wait(_STOP_TIMEOUT_SECONDS)
