"""Serves the coordinator to the group's supervisors, on a thread of rank 0's supervisor.

The port is open to the pod network: lines, connections and what is buffered have limits, a connection that does not say
hello with the run's id in time is closed, and so is one that sends what cannot be read.
"""

import dataclasses
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence

from imagetrain_api import progress
from imagetrain_trainer.rendezvous import connections, coordinator, failures, messages, settings

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
BEAT_SECONDS = 0.5
HELLO_SECONDS = 5.0  # a member says hello as soon as it is connected
LINGER_SECONDS = 5.0
_MAX_BUFFERED_BYTES = 8 * 1024 * 1024  # of all unfinished lines; a usual one has half a kilobyte
_SPARE_CONNECTIONS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class _NoGuilt:
    rank: int | None = None
    reason: str = "Hung"
    message: str = ""


class Server:
    """Serves until `close`."""

    def __init__(
        self,
        address: tuple[str, int],
        run_id: str,
        limits: settings.Settings,
        judge: failures.Judge,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Bind and start.

        Args:
            address: where to listen; an empty host means all addresses, port 0 a free port.
            run_id: what a member must say to be let in.
            limits: of the group.
            judge: names the guilty rank of a hung group.
            wall_clock: Unix time, for records.

        Raises:
            OSError: the port is taken.
        """
        self._run_id = run_id
        self._most_connections = 2 * limits.workers + _SPARE_CONNECTIONS
        self._workers = limits.workers
        self._coordinator = coordinator.Coordinator(limits, _guard(judge), now=time.monotonic(), wall_clock=wall_clock)
        self._lock = threading.Lock()  # around the coordinator; the thread holds it for moments only
        self._listener = _listen(address)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._connections: set[connections.Connection] = set()
        self._encoded: dict[messages.Order, bytes] = {}
        self._told_to_leave: set[int] = set()
        self._next_beat = self._next_tick = time.monotonic()
        self._closes_at: float | None = None
        self._thread = threading.Thread(target=self._serve, name="rendezvous", daemon=True)
        self._thread.start()

    def recoveries(self) -> tuple[progress.Recovery, ...]:
        """Return the newest recoveries, oldest first, with the time lost until now."""
        with self._lock:
            return self._coordinator.recoveries(time.monotonic())

    def close(self, linger_seconds: float = LINGER_SECONDS) -> None:
        """Stop; if the group is to leave, wait so long until every member was told."""
        self._closes_at = time.monotonic() + (linger_seconds if self._coordinator.is_over else 0.0)
        self._thread.join(linger_seconds + 5.0)

    def _serve(self) -> None:
        try:
            while not self._is_finished():
                self._serve_once()
        except Exception:
            # The members miss its signs of life, and leave when their time is over.
            logger.exception("The rendezvous failed.")
        finally:
            for connection in list(self._connections):
                self._drop(connection, is_lost=False)
            self._selector.close()
            self._listener.close()

    def _is_finished(self) -> bool:
        if self._closes_at is None:
            return False
        has_told = len(self._told_to_leave) == self._workers and not any(c.member for c in self._connections)
        return has_told or time.monotonic() >= self._closes_at

    def _serve_once(self) -> None:
        for key, _ in self._selector.select(TICK_SECONDS):
            if key.data is None:
                self._accept()
            elif key.data in self._connections:
                self._read(key.data)
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._tick(now)
        is_beat = now >= self._next_beat
        if is_beat:
            self._next_beat = now + BEAT_SECONDS
        for connection in list(self._connections):
            self._write(connection, is_beat=is_beat)

    def _tick(self, now: float) -> None:
        with self._lock:
            self._coordinator.tick(now)
        for connection in list(self._connections):
            if connection.member is None:
                if now - connection.opened_at > HELLO_SECONDS:
                    self._drop(connection, why="it did not say hello")
            elif self._coordinator.is_silent(*connection.member):
                self._drop(connection, why="it is silent")

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # the peer has gone, or this process has no descriptor left; the next try is a moment away
            return
        if len(self._connections) >= self._most_connections:
            accepted.close()
            return
        connection = connections.Connection(accepted, time.monotonic())
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _read(self, connection: connections.Connection) -> None:
        try:
            for line in connection.read_lines():
                self._take(connection, line)
        except ValueError as error:
            self._drop(connection, why=f"it sent what cannot be read: {str(error)[:200]}")
        except OSError as error:
            self._drop(connection, why=str(error))
        if connection.is_closed:
            self._drop(connection, why="it was closed")
        elif sum(each.buffered_bytes for each in self._connections) > _MAX_BUFFERED_BYTES:
            self._drop(connection, why="too much is buffered")

    def _take(self, connection: connections.Connection, line: bytes) -> None:
        if connection.member is None:
            self._greet(connection, messages.decode(messages.Hello, line))
            return
        report = messages.decode(messages.MemberReport, line)
        if (report.rank, report.incarnation) != connection.member:
            raise ValueError(f"rank and incarnation must stay as they were, got {report.rank}.")
        with self._lock:
            self._coordinator.receive(report, time.monotonic())

    def _greet(self, connection: connections.Connection, hello: messages.Hello) -> None:
        if hello.run_id != self._run_id:
            raise ValueError(f"runId must be {self._run_id}, got {hello.run_id!r}.")
        with self._lock:
            self._coordinator.join(hello, time.monotonic())
        member = (hello.report.rank, hello.report.incarnation)
        for other in list(self._connections):
            if other.member == member:  # it connected again before the end of its last connection was seen
                self._drop(other, is_lost=False)
        connection.member = member

    def _write(self, connection: connections.Connection, *, is_beat: bool) -> None:
        if connection.member is None or connection not in self._connections:
            return
        order = self._coordinator.order_for(*connection.member)
        if order is not connection.order and (is_beat or _is_urgent(order, connection.order)):
            if order != connection.order:
                connection.queue(self._encode(order))
            connection.order = order
        if is_beat:
            connection.beat()
        if not connection.has_to_send:
            return
        try:
            connection.flush()
        except OSError as error:
            self._drop(connection, why=str(error))
            return
        if connection.order is order and order.action == "leave" and not connection.has_to_send:
            self._told_to_leave.add(connection.member[0])

    def _encode(self, order: messages.Order) -> bytes:
        if order not in self._encoded:
            if len(self._encoded) > 2 * self._workers:
                self._encoded.clear()
            self._encoded[order] = messages.encode(order)
        return self._encoded[order]

    def _drop(self, connection: connections.Connection, *, why: str = "", is_lost: bool = True) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection.member is not None and is_lost:
            rank, incarnation = connection.member
            logger.info("The connection to rank %d ended: %s.", rank, why)
            with self._lock:
                self._coordinator.lose(rank, incarnation, time.monotonic())
        elif why:
            logger.debug("A stranger's connection ended: %s.", why)


def _is_urgent(order: messages.Order, sent: messages.Order | None) -> bool:
    """Tell whether an order asks for something else than the one before.

    What only its words tell, such as who is still waited for, waits for the next beat: it changes with each member that
    reports, and everybody reads it.
    """
    return sent is None or _demand(order) != _demand(sent)


def _demand(order: messages.Order) -> tuple[object, ...]:
    return order.sequence, order.generation, order.action, order.exit_code, order.skip_steps


def _listen(address: tuple[str, int]) -> socket.socket:
    host, port = address
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, backlog=512, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512)


def _guard(judge: failures.Judge) -> failures.Judge:
    """Return a judge that never fails: a hung group must be ended even if nobody can be named."""

    def judge_safely(reports: Sequence[messages.MemberReport], now: float, /) -> failures.Guilt:
        try:
            return judge(reports, now)
        except Exception:
            logger.exception("The guilty rank could not be found.")
            return _NoGuilt()

    return judge_safely
