"""One accepted connection of the rendezvous: bounded lines in, the newest order out. It never blocks."""

import socket
from collections.abc import Iterator

from imagetrain_trainer.rendezvous import messages

_READ_BYTES = 64 * 1024


class Connection:
    """A peer, which has to say hello before it counts as a member.

    Attributes:
        member: rank and incarnation; None before the hello.
        order: the last order that was queued for it.
        opened_at: monotonic time.
        is_closed: whether the peer has nothing more to say.
    """

    def __init__(self, sock: socket.socket, opened_at: float) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.opened_at = opened_at
        self.member: tuple[int, str] | None = None
        self.order: messages.Order | None = None
        self.is_closed = False
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._next = b""  # the newest order; one that it replaces is never sent

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished line is kept."""
        return len(self._inbox)

    @property
    def has_to_send(self) -> bool:
        """Tell whether something waits to be sent."""
        return bool(self._outbox or self._next)

    def read_lines(self) -> Iterator[bytes]:
        """Read what is there and yield each line that is complete.

        Raises:
            ValueError: a line is too long.
            OSError: the connection broke.
        """
        try:
            received = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        self.is_closed = not received
        self._inbox += received
        while (end := self._inbox.find(b"\n")) >= 0:
            self._check_length(end)
            line = bytes(self._inbox[:end])
            del self._inbox[: end + 1]
            if line:
                yield line
        self._check_length(len(self._inbox))

    def _check_length(self, size: int) -> None:
        limit = messages.MAX_HELLO_BYTES if self.member is None else messages.MAX_REPORT_BYTES
        if size > limit:
            raise ValueError(f"a line must be at most {limit} bytes long, got {size}.")

    def queue(self, line: bytes) -> None:
        """Have an order sent next, in place of one that has not been begun."""
        self._next = line

    def beat(self) -> None:
        """Have a sign of life sent, if nothing else waits."""
        if not self.has_to_send:
            self._outbox += messages.BEAT

    def flush(self) -> None:
        """Send what the peer takes.

        Raises:
            OSError: the connection broke.
        """
        if not self._outbox and self._next:
            self._outbox += self._next
            self._next = b""
        if not self._outbox:
            return
        try:
            del self._outbox[: self.socket.send(self._outbox)]
        except BlockingIOError:
            return
        if not self._outbox and self._next:
            self.flush()
