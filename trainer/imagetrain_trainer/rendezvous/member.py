"""A supervisor's side of the rendezvous: it tells the coordinator how it fares and learns what to do.

A thread keeps one connection and makes a new one whenever it ends. The host's name is resolved anew at each try, for
in Kubernetes it appears late and changes when rank 0's pod is replaced.
"""

import logging
import random
import select
import socket
import threading
import time

from imagetrain_api import exit_codes
from imagetrain_trainer.rendezvous import messages, settings

logger = logging.getLogger(__name__)

ExitCode = exit_codes.ExitCode

BEAT_SECONDS = 0.5
_CONNECT_SECONDS = 3.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
_LONGEST_STEP_SECONDS = 10.0  # a longer step of the thread means that this process was frozen: nobody else's fault
# A change of one of these is told at once; the others wait for the next beat.
_URGENT = ("generation", "heard", "state", "exit_code", "suspect", "has_dump", "is_stopping", "dump_uri")


class Member:
    """One supervisor; thread-safe."""

    def __init__(
        self, address: tuple[str, int], run_id: str, report: messages.MemberReport, limits: settings.Settings
    ) -> None:
        """Start.

        Args:
            address: host name and port of rank 0's coordinator.
            run_id: the run.
            report: the first report.
            limits: of the group.
        """
        self._address = address
        self._run_id = run_id
        self._limits = limits
        self._lock = threading.Lock()
        self._report = report
        self._reported_at = time.monotonic()
        self._order = messages.Order(message=f"Waiting for rank 0 at {address[0]}:{address[1]}.")
        self._has_order = False
        self._is_connected = False
        self._is_closed = False
        self._inbox = bytearray()
        self._absent_seconds = 0.0
        self._error = "it did not answer"
        self._clock = time.monotonic()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="rendezvous-member", daemon=True)
        self._thread.start()

    def report(self, report: messages.MemberReport) -> None:
        """Tell how it fares, each few seconds at least: whoever does not is left to be taken for frozen."""
        with self._lock:
            is_urgent = any(getattr(report, name) != getattr(self._report, name) for name in _URGENT)
            self._report, self._reported_at = report, time.monotonic()
        if is_urgent:
            self._wake()

    def order(self) -> messages.Order:
        """Return what to do now.

        If the coordinator stays away for too long, or this supervisor is asked to stop meanwhile, it is to leave.
        """
        with self._lock:
            report, order = self._report, self._order
            if order.action == "leave" or self._is_connected:
                return order
            if report.is_stopping and not report.has_process:
                code = ExitCode.DONE if report.is_done else ExitCode.PREEMPTED
                return self._leave(code, f"Rank {report.rank} was asked to stop.")
            limit = self._limits.member_timeout_seconds if self._has_order else self._limits.start_timeout_seconds
            if self._absent_seconds <= limit:
                return order
            setting = "memberTimeoutSeconds" if self._has_order else "startTimeoutSeconds"
            host, port = self._address
            return self._leave(
                ExitCode.DONE if report.is_done else ExitCode.PEER_LOST,
                f"Rank 0 could not be reached at {host}:{port} for {limit:g} s (recovery.{setting}): {self._error}.",
            )

    def _leave(self, code: int, message: str) -> messages.Order:
        self._order = messages.Order(
            generation=self._order.generation,
            action="leave",
            exit_code=int(code),
            message=message,
            recoveries=self._order.recoveries,
            restarts=self._order.restarts,
            skip_steps=self._order.skip_steps,
        )
        return self._order

    def close(self) -> None:
        """End the connection."""
        self._is_closed = True
        self._wake()
        self._thread.join(_CONNECT_SECONDS)  # a resolver may hold it for longer; the thread dies with the process

    def _wake(self) -> None:
        try:
            self._wake_write.send(b".")
        except OSError:  # enough of them are there already, or the thread has ended
            return

    # On the thread.

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._is_closed:
            self._inbox.clear()
            if self._stands_still():
                self._wait(BEAT_SECONDS)
                continue
            try:
                with socket.create_connection(self._address, timeout=_CONNECT_SECONDS) as sock:
                    self._talk(sock)
            except (OSError, ValueError) as error:
                self._error = str(error) or type(error).__name__
            with self._lock:
                was_heard, self._is_connected = self._is_connected, False
                if self._order.action == "leave":
                    break
            self._pass_time()
            pause = _FIRST_PAUSE_SECONDS if was_heard else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self._wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that the members do not come all at once
            self._pass_time()
        self._wake_read.close()
        self._wake_write.close()

    def _pass_time(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._absent_seconds += min(now - self._clock, _LONGEST_STEP_SECONDS)
        self._clock = now

    def _wait(self, seconds: float, sock: socket.socket | None = None) -> bool:
        """Wait until there is something to read, to send or to end; tell whether there is something to read."""
        poll = select.poll()  # select.select knows no descriptor beyond 1,023
        for watched in (self._wake_read, *([sock] if sock is not None else [])):
            poll.register(watched, select.POLLIN)
        readable = {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self._wake_read.fileno() in readable:
            self._wake_read.recv(4096)
        return sock is not None and sock.fileno() in readable

    def _talk(self, sock: socket.socket) -> None:
        """Exchange reports and orders until the connection ends.

        Raises:
            OSError: it ended.
            ValueError: the coordinator sent what cannot be read.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            sent = self._report
            last = self._order
        hello = messages.Hello(
            run_id=self._run_id,
            report=sent,
            generation=last.generation,
            recoveries=last.recoveries,
            restarts=last.restarts,
            skip_steps=last.skip_steps,
        )
        sock.sendall(messages.encode(hello))
        heard_at = sent_at = time.monotonic()
        while not self._is_closed:
            if self._wait(sent_at + BEAT_SECONDS - time.monotonic(), sock):
                self._read(sock)
                heard_at = time.monotonic()
            self._pass_time()
            now = time.monotonic()
            if now - heard_at > self._limits.silence_seconds:
                raise TimeoutError(f"it was silent for {self._limits.silence_seconds:g} s")
            with self._lock:
                report = self._report
            if self._stands_still():
                sent_at = now  # this thread lives, but nobody obeys what it hears
            elif now - sent_at >= BEAT_SECONDS or _is_urgent(report, sent):
                sock.sendall(messages.encode(report))
                sent, sent_at = report, now

    def _stands_still(self) -> bool:
        with self._lock:
            return time.monotonic() - self._reported_at > self._limits.unreported_seconds

    def _read(self, sock: socket.socket) -> None:
        received = sock.recv(64 * 1024)
        if not received:
            raise ConnectionError("it closed the connection")
        self._inbox += received
        while (end := self._inbox.find(b"\n")) >= 0:
            line = bytes(self._inbox[:end])
            del self._inbox[: end + 1]
            self._hear(messages.decode(messages.Order, line) if line else None)
        if len(self._inbox) > messages.MAX_ORDER_BYTES:
            raise ValueError("it sent too long a line")

    def _hear(self, order: messages.Order | None) -> None:
        with self._lock:
            self._absent_seconds = 0.0
            if order is not None and self._order.action != "leave":
                self._order, self._has_order, self._is_connected = order, True, True


def _is_urgent(report: messages.MemberReport, sent: messages.MemberReport) -> bool:
    return any(getattr(report, name) != getattr(sent, name) for name in _URGENT)
