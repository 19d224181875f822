"""The process behind `fault_proxy`: `fault_proxy_process.py HOST:PORT`, controlled by lines of JSON on standard input.

One upstream connection per client connection; requests do not overlap on one. Of a request the head alone is looked at.
An answer is forwarded as it comes, and looked into only where a fault is due in its body. Delays hold the request back,
so nothing is buffered.
"""

import asyncio
import collections
import hashlib
import json
import socket
import struct
import sys
import time
from typing import Any, cast

import uvloop

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>A made-up fault.</Message></Error>'
_PAUSE_SECONDS = 0.005  # bandwidth is kept by pauses of at least this
_HEAD_END = b"\r\n\r\n"


class State:
    """The faults that are set, what was counted, and the connections."""

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.faults: dict[str, Any] = collections.defaultdict(int)
        self.counts: collections.Counter[str] = collections.Counter()
        self.seen: collections.Counter[bytes] = collections.Counter()
        self.clients: set[Client] = set()
        self.free_at = 0.0

    def draw(self, request: bytes) -> tuple[float, float]:
        """Return two numbers from 0 to 1 for this request, by how often it was made before."""
        number = self.seen[request]
        self.seen[request] += 1
        text = b"%d %d %s" % (self.faults["seed"], number, request)
        first, second = struct.unpack("<QQ", hashlib.blake2b(text, digest_size=16).digest())
        return first / 2**64, second / 2**64

    def choose(self, fate: float) -> str:
        """Return the name of the fault that `fate` falls on, or an empty text."""
        for name, fraction in _FRACTIONS.items():
            fate -= self.faults[fraction]
            if fate < 0:
                return name
        return ""

    def apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a line on standard input asks for."""
        if "set" in request:
            self.faults.update(request["set"])
            if self.faults["is_down"]:
                for client in list(self.clients):
                    client.reset()
        if "cpu" in request:
            return {"cpu_seconds": time.process_time()}
        return dict.fromkeys(_COUNTS, 0) | self.counts | {"open_connections": len(self.clients)}


_FRACTIONS = {
    "stalls": "stall_fraction",
    "body_stalls": "body_stall_fraction",
    "slow_downs": "slow_down_fraction",
    "errors": "error_fraction",
    "resets": "reset_fraction",
    "truncations": "truncate_fraction",
    "flips": "flip_fraction",
}
_COUNTS = (
    *("connections", "most_open_connections", "requests", "gets", "body_bytes", "refusals", "silences"),
    *_FRACTIONS,
)
_BODY_FAULTS = frozenset({"body_stalls", "resets", "truncations", "flips"})


class Client(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._head = bytearray()
        self._body_left = 0
        self._held: list[bytes] = []  # waits for the connection to the server
        self._delay: asyncio.TimerHandle | None = None
        self.upstream: Upstream | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        state = self._state
        state.clients.add(self)
        state.counts["connections"] += 1
        state.counts["most_open_connections"] = max(state.counts["most_open_connections"], len(state.clients))
        if state.faults["is_down"]:
            state.counts["refusals"] += 1
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._state.clients.discard(self)
        if self._delay is not None:
            self._delay.cancel()
        if self.upstream is not None:
            self.upstream.close()

    def reset(self) -> None:
        """End the connection by RST, as a failing host or balancer does."""
        found = self.transport.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def pause_writing(self) -> None:
        if self.upstream is not None:
            self.upstream.pause("client")

    def resume_writing(self) -> None:
        if self.upstream is not None:
            self.upstream.resume("client")

    def data_received(self, data: bytes) -> None:
        if self._body_left:
            taken = data[: self._body_left]
            self._body_left -= len(taken)
            self._forward(taken)
            data = data[len(taken) :]
        if not data:
            return
        self._head += data
        end = self._head.find(_HEAD_END)
        if end < 0:
            return
        end += len(_HEAD_END)
        head, rest = bytes(self._head[:end]), bytes(self._head[end:])
        self._head.clear()
        self._take_head(head)
        if rest:
            self.data_received(rest)

    def _take_head(self, head: bytes) -> None:
        state = self._state
        state.counts["requests"] += 1
        length = read_header(head, b"content-length")
        self._body_left = int(length) if length else 0
        if state.faults["is_silent"]:
            state.counts["silences"] += 1
            return
        if is_object_get(head):
            self._take_get(head)
            return
        self._forward(head)

    def _take_get(self, head: bytes) -> None:
        state, faults = self._state, self._state.faults
        state.counts["gets"] += 1
        fate, place = state.draw(read_key(head) + b" " + read_header(head, b"range"))
        fault = state.choose(fate)
        if fault:
            state.counts[fault] += 1
        delay = faults["first_byte_delay_seconds"] + faults["first_byte_jitter_seconds"] * place
        if fault == "stalls":
            delay += faults["stall_seconds"]
        if not delay:
            self._answer(head, fault, place)
            return
        self._delay = self._loop.call_later(delay, self._answer, head, fault, place)

    def _answer(self, head: bytes, fault: str, place: float) -> None:
        if fault == "slow_downs":
            self.transport.write(build_error(503, "SlowDown"))
        elif fault == "errors":
            self.transport.write(build_error(500, "InternalError"))
        elif fault == "resets" and place < 0.5:
            self.reset()
        else:
            self._forward(head, (fault, place) if fault in _BODY_FAULTS else None)

    def _forward(self, data: bytes, fault: tuple[str, float] | None = None) -> None:
        if self.upstream is None:
            self.upstream = Upstream(self._state, self)
            self._held.append(data)
            self.upstream.fault = fault
            self._loop.create_task(self._connect(self.upstream))
        elif not self.upstream.is_connected:
            self._held.append(data)
        else:
            self.upstream.fault = fault
            self.upstream.transport.write(data)

    async def _connect(self, upstream: "Upstream") -> None:
        try:
            await self._loop.create_connection(lambda: upstream, *self._state.upstream)
        except OSError:
            self.reset()
            return
        if self.transport.is_closing():
            upstream.close()

    def flush(self, transport: asyncio.WriteTransport) -> None:
        """Send what waited for the connection to the server."""
        transport.write(b"".join(self._held))
        self._held.clear()


class Upstream(asyncio.Protocol):
    """The server's side of a client's connection."""

    def __init__(self, state: State, client: Client) -> None:
        self._state, self._client = state, client
        self._loop = asyncio.get_running_loop()
        self._pauses: set[str] = set()
        self.is_connected = False
        self.fault: tuple[str, float] | None = None
        """A fault in the body that comes, and where in it, from 0 to 1."""
        self._fault_at: int | None = None
        self._free_at = 0.0
        self._head = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.is_connected = True
        self._client.flush(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._client.transport.close()

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()

    def close(self) -> None:
        """End the connection."""
        if self.is_connected:
            self.transport.abort()

    def pause(self, why: str) -> None:
        """Take no more of the answer for now."""
        if not self._pauses:
            self.transport.pause_reading()
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """Go on, unless there is another reason not to."""
        if why in self._pauses:
            self._pauses.discard(why)
            if not self._pauses and not self.transport.is_closing():
                self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.fault is not None:
            self._damage(data)
            return
        self._send(data)

    def _send(self, data: bytes) -> None:
        state, faults = self._state, self._state.faults
        state.counts["body_bytes"] += len(data)
        self._client.transport.write(data)
        now, wait = self._loop.time(), 0.0
        if faults["bytes_per_second"]:
            state.free_at = max(now, state.free_at) + len(data) / faults["bytes_per_second"]
            wait = state.free_at - now
        if faults["connection_bytes_per_second"]:
            self._free_at = max(now, self._free_at) + len(data) / faults["connection_bytes_per_second"]
            wait = max(wait, self._free_at - now)
        if wait > _PAUSE_SECONDS:
            self.pause("bandwidth")
            self._loop.call_later(wait, self.resume, "bandwidth")

    def _damage(self, data: bytes) -> None:
        """Forward what comes before the place of the fault, then do it."""
        assert self.fault is not None
        name, place = self.fault
        if self._fault_at is None:
            data = self._head + data
            end = data.find(_HEAD_END)
            if end < 0:
                self._head = data
                return
            self._head = b""
            length = int(read_header(data[: end + len(_HEAD_END)], b"content-length") or 0)
            self._fault_at = end + len(_HEAD_END) + int(length * place)
        if len(data) <= self._fault_at:
            self._fault_at -= len(data)
            self._send(data)
            return
        before, after = data[: self._fault_at], data[self._fault_at :]
        self.fault = self._fault_at = None
        if name == "flips":
            self._send(before + bytes([after[0] ^ 0x10]) + after[1:])
            return
        self._send(before)
        if name == "resets":
            self._client.reset()
        elif name == "truncations":
            self._client.transport.close()
        else:
            self.pause("stall")
            self._loop.call_later(self._state.faults["stall_seconds"], self._end_stall, after)

    def _end_stall(self, after: bytes) -> None:
        if not self._client.transport.is_closing():
            self._send(after)
            self.resume("stall")


def read_header(head: bytes, name: bytes) -> bytes:
    """Return a header's value, empty when it is not there."""
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    at += len(name) + 3
    return head[at : head.index(b"\r\n", at)].strip()


def read_key(head: bytes) -> bytes:
    """Return the key of a GET of `/bucket/key`."""
    return head.split(b" ", 2)[1].lstrip(b"/").partition(b"/")[2]


def is_object_get(head: bytes) -> bool:
    """Tell a GET of `/bucket/key` from one of a bucket or a subresource."""
    if not head.startswith(b"GET /"):
        return False
    path, _, query = head.split(b" ", 2)[1].partition(b"?")
    return path.strip(b"/").count(b"/") >= 1 and not query


def build_error(status: int, code: str) -> bytes:
    """Return S3's answer of an error."""
    body = _ERROR.format(code=code)
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def serve(upstream: tuple[str, int]) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    state = State(upstream)
    server = await loop.create_server(lambda: Client(state), "127.0.0.1", 0, backlog=1024)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    answer(port=server.sockets[0].getsockname()[1])
    while line := await commands.readline():
        answer(**state.apply(json.loads(line)))


def answer(**fields: float) -> None:
    """Write a line of JSON."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    host, _, port = sys.argv[1].partition(":")
    uvloop.run(serve((host, int(port))))
