"""What the chiefs tell of their progress, asked for at `/progress` every few seconds."""

import asyncio
import dataclasses
import heapq
import itertools
import logging
from collections.abc import Callable

import aiohttp
import orjson

from imagetrain_api import names, progress, schema
from imagetrain_operator import observed

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 3.0
_MAX_BACKOFF_SECONDS = 60.0
SILENT_SECONDS = 30.0
"""So long a chief may fail to answer before that is told: a network may be away for a moment."""
_MAX_ANSWER_BYTES = 1 << 18  # ten recoveries with stacks and foreign text, every character escaped, are half of it
_PARALLEL = 32


@dataclasses.dataclass(slots=True, eq=False)
class _Watched:
    key: observed.Key
    address: str
    report: progress.Progress | None = None
    failures: int = 0
    failing_since: float = 0.0
    silence: str = ""


class ProgressBoard:
    """The newest report of each watched chief.

    Args:
        interval_seconds: time between two questions to one chief.
        on_change: told the key of a job whose chief told something new, fell silent, or answers again.
        silent_seconds: after so long a chief that fails to answer is silent.
    """

    def __init__(
        self,
        interval_seconds: float,
        on_change: Callable[[observed.Key], None],
        *,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._interval = interval_seconds
        self._on_change = on_change
        self._silent_seconds = silent_seconds
        self._watched: dict[observed.Key, _Watched] = {}
        self._due: list[tuple[float, int, _Watched]] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    def watch(self, key: observed.Key, ip: str) -> None:
        """Ask the chief at this pod address from now on; another address replaces the one before."""
        address = f"[{ip}]" if ":" in ip else ip
        known = self._watched.get(key)
        if known is not None and known.address == address:
            return
        self._watched[key] = _Watched(key, address)
        self._schedule(self._watched[key], 0.0)

    def stop(self, key: observed.Key) -> None:
        """Ask no more, and forget what was told."""
        self._watched.pop(key, None)

    def report(self, key: observed.Key) -> progress.Progress | None:
        """Return the newest report of the chief that is watched now."""
        watched = self._watched.get(key)
        return watched.report if watched else None

    def silence(self, key: observed.Key) -> str:
        """Return why the chief that is watched now has not been heard of for long; "" where it answers."""
        watched = self._watched.get(key)
        return watched.silence if watched else ""

    async def run(self) -> None:
        """Ask for ever."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=_PARALLEL, force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                delay = self._ask_due(session)
                self._wake.clear()
                try:
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def _ask_due(self, session: aiohttp.ClientSession) -> float | None:
        """Start the questions whose time has come; return the seconds until the next one."""
        now = asyncio.get_running_loop().time()
        while self._due:
            due, _, watched = self._due[0]
            if not self._is_watched(watched):
                heapq.heappop(self._due)
            elif due > now:
                return due - now
            elif len(self._asking) >= _PARALLEL:
                return 0.1
            else:
                heapq.heappop(self._due)
                task = asyncio.create_task(self._ask(session, watched))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
        return None

    def _is_watched(self, watched: _Watched) -> bool:
        """Tell whether nothing has replaced it: another group's chief may be given the same address."""
        return self._watched.get(watched.key) is watched

    async def _ask(self, session: aiohttp.ClientSession, watched: _Watched) -> None:
        before = watched.report, watched.silence
        try:
            url = f"http://{watched.address}:{names.STATUS_PORT}{names.PATH_PROGRESS}"
            async with session.get(url) as response:
                response.raise_for_status()
                text = await _read(response.content)
            watched.report = schema.decode(progress.Progress, orjson.loads(text))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._note_failure(watched, error)
        else:
            watched.failures, watched.silence = 0, ""
        if not self._is_watched(watched):
            return
        if (watched.report, watched.silence) != before:
            self._on_change(watched.key)
        # 2 s while it starts, so that the first step shows at once; later every interval.
        is_early = watched.report is None or watched.report.step == 0
        wait = min(self._interval, 2.0) if is_early else self._interval
        self._schedule(watched, min(wait * 2 ** min(watched.failures, 5), _MAX_BACKOFF_SECONDS))

    def _note_failure(self, watched: _Watched, error: Exception) -> None:
        logger.debug("%s: the chief at %s did not tell its progress: %s", watched.key, watched.address, error)
        now = asyncio.get_running_loop().time()
        if not watched.failures:
            watched.failing_since = now
        watched.failures += 1
        if not watched.silence and now - watched.failing_since >= self._silent_seconds:
            why = f"no answer within {_TIMEOUT_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
            watched.silence = f"{watched.address}:{names.STATUS_PORT}: {why}"

    def _schedule(self, watched: _Watched, seconds: float) -> None:
        due = asyncio.get_running_loop().time() + seconds
        heapq.heappush(self._due, (due, next(self._order), watched))
        self._wake.set()


async def _read(content: aiohttp.StreamReader) -> bytes:
    """Return an answer that ends within the limit: workers run code that users wrote."""
    text = b""
    async for chunk in content.iter_any():
        text += chunk
        if len(text) > _MAX_ANSWER_BYTES:
            raise ValueError(f"an answer longer than {_MAX_ANSWER_BYTES} bytes")
    return text
