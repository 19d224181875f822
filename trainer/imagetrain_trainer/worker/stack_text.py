"""Reads stacks as faulthandler and py-spy write them: whom a process waits for, and where. Pure."""

import dataclasses
import re
from collections.abc import Sequence

MAX_HEAD = 600  # what a status has room for
_MAX_PLACE = 200  # what a report has room for (rendezvous/messages.py)
_PY_SPY_THREAD = re.compile(r'Thread \S+ \(.*?\)(?:: "(?P<name>.*)")?$')
_PY_SPY_FRAME = re.compile(r" {4}(?P<function>.+) \((?P<file>[^()]+?)(?::(?P<line>\d+))?\)$")
_OWN_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+ \(most recent call first\):$")
_OWN_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+|\?\?\?) in (?P<function>.+)$')
_MAIN = "MainThread"
# Where TensorFlow calls Python: tf.py_function, tf.numpy_function, and the generators of tf.data.
_CALL_INTO_PYTHON = "tensorflow/python/ops/script_ops.py"
_EXECUTE = "tensorflow/python/eager/"
_READ_AHEAD = "imagetrain_trainer/data/prefetch.py"
_GROUP_CALLS = (
    "imagetrain_trainer/training/execution.py",
    "imagetrain_trainer/training/evaluation.py",
    "imagetrain_trainer/training/group.py",
)
_FOREIGN = ("site-packages/", "dist-packages/", "<frozen ")
_STANDARD_LIBRARY = re.compile(r"/lib/python3\.\d+/(?!site-packages/)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A call: `line` is None for native code, and `file` is a library then."""

    function: str
    file: str
    line: int | None

    @property
    def is_own(self) -> bool:
        """Whether it is the product's or the user's: no library's, and not native."""
        if self.line is None or not self.file.endswith(".py"):
            return False
        if "/imagetrain_trainer/" in self.file:
            return True
        return not any(part in self.file for part in _FOREIGN) and not _STANDARD_LIBRARY.search(self.file)

    def __str__(self) -> str:
        place = self.file.rpartition("/")[2]
        return f"{self.function} ({place}{'' if self.line is None else f':{self.line}'})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread: its calls, the innermost first."""

    name: str
    frames: tuple[Frame, ...]

    @property
    def own(self) -> tuple[Frame, ...]:
        """The calls of the product's and the user's code."""
        return tuple(frame for frame in self.frames if frame.is_own)

    def is_in(self, *files: str) -> bool:
        """Tell whether a call of these files is under way."""
        return any(file in frame.file for frame in self.frames for file in files)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StackDump:
    """The stacks of a process.

    Attributes:
        text: all of it, for a file.
        waits_for: `input` or `peers` where the stacks show that; empty where the process waits for nobody (one of
            `progress.WAITS`).
        place: the innermost call of the product's or the user's code in the thread that matters; empty if unknown.
    """

    text: str
    waits_for: str = ""
    place: str = ""


def read_dump(text: str, *, is_busy: bool = False, is_stopped: bool = False) -> StackDump:
    """Find out what a process waits for.

    Args:
        text: has faulthandler's or py-spy's stacks in it.
        is_busy: whether it computes.
        is_stopped: whether the kernel has stopped it.
    """
    threads = parse(text)
    guilty = find_guilty(threads)
    if guilty is None:
        return StackDump(text=text)
    place = str(guilty.own[0])[:_MAX_PLACE] if guilty.own else ""
    is_waiting = not is_busy and not is_stopped
    return StackDump(text=text, waits_for=_find_wait(threads, guilty) if is_waiting else "", place=place)


def head(text: str) -> str:
    """Return the calls of the product's and the user's code in the thread that matters: at most MAX_HEAD characters."""
    guilty = find_guilty(parse(text))
    if guilty is None:
        return ""
    calls = " < ".join(str(frame) for frame in guilty.own or guilty.frames)
    return calls if len(calls) <= MAX_HEAD else f"{calls[: MAX_HEAD - 1]}…"


def parse(text: str) -> list[Thread]:
    """Return the threads, the main thread first; one without calls is left out."""
    threads: list[tuple[str, list[Frame]]] = []
    is_faulthandler = False
    for line in text.splitlines():
        if own := _OWN_THREAD.match(line):
            is_faulthandler = True
            threads.append(("" if own[1] == "Thread" else "current", []))
        elif spied := _PY_SPY_THREAD.match(line):
            threads.append((spied["name"] or "", []))
        elif threads and (frame := _OWN_FRAME.match(line) or _PY_SPY_FRAME.match(line)):
            number = frame["line"]
            threads[-1][1].append(
                Frame(
                    function=frame["function"],
                    file=frame["file"],
                    line=int(number) if number and number.isdigit() else None,
                )
            )
    if is_faulthandler and threads:  # it writes the newest thread first and knows no names
        threads[-1] = (_MAIN, threads[-1][1])
    found = [Thread(name=name, frames=tuple(frames)) for name, frames in threads if frames]
    return sorted(found, key=lambda thread: thread.name != _MAIN)


def find_guilty(threads: Sequence[Thread]) -> Thread | None:
    """Return the thread that matters: Python code that TensorFlow has called and waits for, or the main thread."""
    called = [thread for thread in threads if thread.is_in(_CALL_INTO_PYTHON) and thread.own]
    if threads and _is_executing(threads[0]) and called:
        return min(called, key=_is_reading)
    return threads[0] if threads else None


def _find_wait(threads: Sequence[Thread], guilty: Thread) -> str:
    if _is_reading(guilty):
        return "input"
    main = threads[0]
    is_with_peers = guilty is main and main.name == _MAIN and _is_executing(main) and main.is_in(*_GROUP_CALLS)
    return "peers" if is_with_peers else ""


def _is_executing(thread: Thread) -> bool:
    """Tell whether a thread's innermost call of Python is TensorFlow's, which runs a function or joins a group."""
    innermost = next((frame for frame in thread.frames if frame.line is not None and frame.file.endswith(".py")), None)
    return innermost is not None and _EXECUTE in innermost.file


def _is_reading(thread: Thread) -> bool:
    return bool(thread.own) and _READ_AHEAD in thread.own[0].file
