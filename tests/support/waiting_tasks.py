"""Tasks of a test's event loop: they run for a while, and something comes true meanwhile."""

import asyncio
import collections.abc
import contextlib
import time
from typing import Any


async def until(condition: collections.abc.Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(*work: collections.abc.Coroutine[Any, Any, None]) -> collections.abc.AsyncIterator[None]:
    """Run some work until the block ends."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
