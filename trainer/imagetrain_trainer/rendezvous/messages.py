"""What supervisors and the coordinator tell each other, and its form on the wire: one JSON document a line.

A peer may be of another version, and anybody in the pod network can connect: fields that are unknown here are left out,
and everything known is bounded and checked.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from imagetrain_api import progress, schema
from imagetrain_api.schema import Document, setting

MAX_MEMBERS = 256  # as `spec.workers`
MAX_RECOVERIES = 20
MAX_REPORT_BYTES = 32 * 1024
MAX_HELLO_BYTES = 512 * 1024  # a report and MAX_RECOVERIES recoveries with messages of full length, in escapes
MAX_ORDER_BYTES = 512 * 1024  # the same and MAX_MEMBERS members

STATES = ("idle", "starting", "running", "ended")
STATES_WITH_PROCESS = ("starting", "running")
ACTIONS = ("wait", "run", "dump", "checkpoint_and_stop", "stop", "leave")
SUSPICIONS = ("", "frozen", "step", "start", "checkpoint", "evaluation", "export")

_NAME = r"[A-Za-z0-9._:-]*"
_MAX_GENERATION = 10**9
_MAX_STEP = 10**15
_MAX_SEQUENCE = 10**15

T = TypeVar("T", bound=Document)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Member(Document):
    """One member of a generation. Its rank in the generation is its place in `Order.members`."""

    worker: int = setting(doc="Rank in the full group, by which its supervisor was started.", minimum=0)
    host: str = setting(doc="Host name or address.", pattern=_NAME, pattern_rule="a host name or address")
    collective_port: int = setting(doc="TensorFlow's port.", minimum=1, maximum=65535)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemberReport(Document):
    """What a supervisor tells of itself and its training process, at least each half second."""

    rank: int = setting(doc="Rank in the full group.", minimum=0, maximum=MAX_MEMBERS - 1)
    incarnation: str = setting(
        doc="Random id of the supervisor process.", pattern=r"[A-Za-z0-9-]{1,64}", pattern_rule="1-64 letters or digits"
    )
    host: str = setting(
        doc="Where peers reach it.", pattern=_NAME, pattern_rule="a host name or address", max_length=253
    )
    collective_port: int = setting(doc="TensorFlow's port.", minimum=1, maximum=65535)
    generation: int = setting(
        default=0, doc="Last generation whose process was started here.", minimum=0, maximum=_MAX_GENERATION
    )
    state: str = setting(default="idle", doc="State of the training process.", choices=STATES)
    exit_code: int | None = setting(
        default=None, doc="How it ended; negative: by that signal.", minimum=-64, maximum=255
    )
    message: str = setting(default="", doc="Why it ended or is suspected, in one line.", max_length=2048)
    heard: int = setting(
        default=0, doc="`Order.sequence` of the newest order that was obeyed here.", minimum=0, maximum=_MAX_SEQUENCE
    )
    step: int = setting(default=0, doc="Global steps finished.", minimum=0, maximum=_MAX_STEP)
    entered_step: int = setting(default=0, doc="Step that it is about to run.", minimum=0, maximum=_MAX_STEP)
    entered_last_step: int = setting(
        default=0, doc="Last of the steps that it runs together from there.", minimum=0, maximum=_MAX_STEP
    )
    phase: str = setting(default="starting", doc="Phase of `progress.PHASES`.", max_length=32)
    waiting_for: str = setting(default="", doc="What the training thread waits for.", choices=progress.WAITS)
    silent_seconds: float = setting(
        default=0.0, doc="Since the training process last showed life.", minimum=0, maximum=1e9
    )
    suspect: str = setting(default="", doc="What the watchdog suspects.", choices=SUSPICIONS)
    place: str = setting(
        default="", doc="Where its code stands, from the stacks: `call (blocks.py:12)`.", max_length=200
    )
    has_dump: bool = setting(default=False, doc="Whether this generation's stacks were taken here.")
    local_steps: tuple[int, ...] = setting(
        default=(), doc="Steps of the checkpoints on the local disk.", minimum=0, maximum=_MAX_STEP, max_items=256
    )
    is_stopping: bool = setting(default=False, doc="Whether the supervisor was asked to stop (SIGTERM).")
    dump_generation: int = setting(
        default=0, doc="Generation whose stacks were taken here last; 0: none.", minimum=0, maximum=_MAX_GENERATION
    )
    dump_uri: str | None = setting(default=None, doc="Where they lie, once they lie there.", max_length=1024)
    dump_head: str = setting(
        default="", doc="Their innermost calls, in a line.", max_length=progress.MAX_HEAD_CHARACTERS
    )

    @property
    def has_process(self) -> bool:
        """Tell whether a training process is there."""
        return self.state in STATES_WITH_PROCESS

    @property
    def is_done(self) -> bool:
        """Tell whether the training process has done its work."""
        return self.state == "ended" and self.exit_code == 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order(Document):
    """What the coordinator wants a supervisor to do now; it holds until the next.

    Actions: `wait`: have no process, keep reporting. `run`: have the process of this generation; one that ended is not
    started again. `dump`: take stacks once, keep the process. `checkpoint_and_stop`: let the process stop at its next
    checkpoint. `stop`: kill the process, then report `idle`. `leave`: kill the process and exit with `exit_code`.
    """

    sequence: int = setting(
        default=0, doc="It grows with each turn that the group takes.", minimum=0, maximum=_MAX_SEQUENCE
    )
    generation: int = setting(default=0, doc="The generation it is about.", minimum=0, maximum=_MAX_GENERATION)
    action: str = setting(default="wait", doc="What to do.", choices=ACTIONS)
    members: tuple[Member, ...] = setting(
        default=(), doc="Members of this generation, by their rank in it.", max_items=MAX_MEMBERS
    )
    resume_step: int | None = setting(
        default=None, doc="Newest step that every member has on its disk.", minimum=0, maximum=_MAX_STEP
    )
    skip_steps: tuple[int, ...] = setting(
        default=(),
        doc="Steps that are left out, for the group crashed at them again and again.",
        minimum=1,
        maximum=_MAX_STEP,
        max_items=progress.MAX_SKIPPED_STEPS,
    )
    careful_steps: tuple[int, ...] = setting(
        default=(),
        doc="First and last of the steps that are run one by one, for one of them crashed.",
        minimum=1,
        maximum=_MAX_STEP,
        max_items=2,
    )
    exit_code: int | None = setting(default=None, doc="Exit status, of `leave`.", minimum=0, maximum=255)
    message: str = setting(default="", doc="Why, in one line.", max_length=4096)
    recoveries: tuple[progress.Recovery, ...] = setting(
        default=(), doc="The newest recoveries, oldest first.", max_items=MAX_RECOVERIES
    )
    restarts: int = setting(default=0, doc="Recoveries so far, all of them.", minimum=0, maximum=_MAX_GENERATION)

    def rank_of(self, worker: int) -> int | None:
        """Return the rank in this generation of the supervisor of that rank in the full group; None: it sits out."""
        return next((rank for rank, member in enumerate(self.members) if member.worker == worker), None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Document):
    """First line of a connection. It brings a new coordinator what the last one knew."""

    run_id: str = setting(doc="The run; a coordinator of another one closes the connection.", max_length=63)
    report: MemberReport = setting(doc="The first report.")
    generation: int = setting(default=0, doc="That of the last order.", minimum=0, maximum=_MAX_GENERATION)
    recoveries: tuple[progress.Recovery, ...] = setting(
        default=(), doc="Those of the last order.", max_items=MAX_RECOVERIES
    )
    restarts: int = setting(default=0, doc="That of the last order.", minimum=0, maximum=_MAX_GENERATION)
    skip_steps: tuple[int, ...] = setting(
        default=(), doc="Those of the last order.", minimum=1, maximum=_MAX_STEP, max_items=progress.MAX_SKIPPED_STEPS
    )


BEAT = b"\n"  # an empty line: nothing new, but the sender lives


def encode(document: Document) -> bytes:
    """Return one line."""
    return json.dumps(schema.encode(document), separators=(",", ":")).encode() + b"\n"


def decode(cls: type[T], line: bytes) -> T:
    """Parse one line.

    Raises:
        ValueError: it is no JSON object, or a known field breaks its rule.
    """
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("line must be JSON of few levels, got too many.") from error
    return schema.decode(cls, _known(cls, value))


def _known(cls: type[Document], value: object) -> object:
    """Leave out what this version does not know, in nested documents too."""
    if not isinstance(value, Mapping):
        return value
    known: dict[str, Any] = {}
    for field in schema.document_fields(cls):
        if field.key in value:
            nested = _NESTED.get((cls, field.name))
            item = value[field.key]
            if nested is not None:
                item = [_known(nested, each) for each in item] if isinstance(item, list) else _known(nested, item)
            known[field.key] = item
    return known


def _refuse_constant(text: str) -> float:
    raise ValueError(f"numbers must be finite, got {text}.")


_NESTED: dict[tuple[type[Document], str], type[Document]] = {
    (Order, "members"): Member,
    (Order, "recoveries"): progress.Recovery,
    (Hello, "report"): MemberReport,
    (Hello, "recoveries"): progress.Recovery,
}
