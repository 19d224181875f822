"""The API server's audit log: who asked for what, and when it was done."""

import dataclasses
import datetime as dt
import pathlib

import orjson

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_ADMINISTRATOR = "admin"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One answered request.

    Attributes:
        who: the user; for an administrator the user agent, as the benchmark's programs are all the same one.
        resource: with its subresource, such as pods/status.
        received: when the API server got it, in Unix seconds.
        done: when it was answered.
    """

    who: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    received: float
    done: float

    @property
    def is_write(self) -> bool:
        """Whether it asked for a change."""
        return self.verb in WRITES

    @property
    def was_refused(self) -> bool:
        """Whether the API server said no (conflict, not found, forbidden, too many requests)."""
        return self.code >= 400


class Log:
    """Reads the log as it grows."""

    def __init__(self, path: pathlib.Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self.requests: list[Request] = []

    def read_on(self) -> None:
        """Add what was written since; watches are left out."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            entry = orjson.loads(line)
            if entry["stage"] == "ResponseComplete" and entry["verb"] != "watch":
                self.requests.append(parse(entry))

    def last_write(self, namespace: str) -> float:
        """Return when the newest write in a namespace was done, 0 when there was none."""
        return max((one.done for one in self.requests if one.namespace == namespace and one.is_write), default=0.0)


def parse(entry: dict[str, object]) -> Request:
    """Return the request of an audit event (audit.k8s.io/v1)."""
    target, user, answer = (_object(entry, key) for key in ("objectRef", "user", "responseStatus"))
    who, agent = str(user.get("username", "")), str(entry.get("userAgent", ""))
    resource, part = str(target.get("resource", "")), str(target.get("subresource", ""))
    code = answer.get("code", 0)
    return Request(
        who=agent.partition("/")[0] if who == _ADMINISTRATOR else who,
        verb=str(entry["verb"]),
        resource=f"{resource}/{part}" if part else resource,
        namespace=str(target.get("namespace", "")),
        name=str(target.get("name", "")),
        code=code if isinstance(code, int) else 0,
        received=_unix_seconds(entry["requestReceivedTimestamp"]),
        done=_unix_seconds(entry["stageTimestamp"]),
    )


def _object(entry: dict[str, object], key: str) -> dict[str, object]:
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _unix_seconds(timestamp: object) -> float:
    return dt.datetime.fromisoformat(str(timestamp)).timestamp()
