"""How often chiefs are asked for their progress, and whose answers count."""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web

import waiting_tasks
from imagetrain_api import names, progress, schema
from imagetrain_operator import observed
from imagetrain_operator.cluster import progress_board

KEY = observed.Key("vision", "fashion")
ADDRESS = "127.0.0.1"
INTERVAL_SECONDS = 0.05
SILENT_SECONDS = 0.5


class Chief:
    """A server at the address that all chiefs of these tests have."""

    def __init__(self) -> None:
        self.asked = 0
        self.step = 3
        self.is_failing = False

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.is_failing:
            raise web.HTTPServiceUnavailable
        report = progress.Progress(phase="training", step=self.step)
        return web.Response(body=orjson.dumps(schema.encode(report)))


@contextlib.asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chief]:
    chief, application = Chief(), web.Application()
    application.router.add_get(names.PATH_PROGRESS, chief.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, ADDRESS, 0)
    await site.start()
    monkeypatch.setattr(names, "STATUS_PORT", runner.addresses[0][1])
    try:
        yield chief
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[progress_board.ProgressBoard, collections.Counter[observed.Key]]]:
    told: collections.Counter[observed.Key] = collections.Counter()
    board = progress_board.ProgressBoard(
        INTERVAL_SECONDS, lambda key: told.update([key]), silent_seconds=SILENT_SECONDS
    )
    async with waiting_tasks.running(board.run()):
        yield board, told


async def wait_for_report(board: progress_board.ProgressBoard, step: int) -> None:
    await waiting_tasks.until(lambda: (report := board.report(KEY)) is not None and report.step == step, seconds=10)


def test_chief_that_is_watched_again_at_its_old_address_is_asked_no_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[int, int]:
        async with serving(monkeypatch) as chief, running() as (board, _):
            counts = []
            for changes in (0, 20):
                for _ in range(changes):  # groups that end and start, with pods of the same address
                    board.stop(KEY)
                    board.watch(KEY, ADDRESS)
                    await asyncio.sleep(0.01)
                board.watch(KEY, ADDRESS)
                await wait_for_report(board, 3)
                before = chief.asked
                await asyncio.sleep(20 * INTERVAL_SECONDS)
                counts.append(chief.asked - before)
            return counts[0], counts[1]

    once, changed = asyncio.run(main())
    assert 0 < once <= 21
    assert 0 < changed <= 21


def test_only_new_answers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        async with serving(monkeypatch) as chief, running() as (board, told):
            board.watch(KEY, ADDRESS)
            await wait_for_report(board, 3)
            await asyncio.sleep(4 * INTERVAL_SECONDS)
            assert told[KEY] == 1
            chief.step = 4
            await wait_for_report(board, 4)
            return told[KEY]

    assert asyncio.run(main()) == 2


def test_answer_of_a_chief_that_was_replaced_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(monkeypatch) as chief, running() as (board, told):
            board.watch(KEY, ADDRESS)
            await wait_for_report(board, 3)
            board.stop(KEY)
            assert board.report(KEY) is None
            chief.is_failing = True
            board.watch(KEY, ADDRESS)
            await asyncio.sleep(4 * INTERVAL_SECONDS)
            assert board.report(KEY) is None
            assert told[KEY] == 1

    asyncio.run(main())


def test_chief_that_does_not_answer_for_long_is_told_as_silent_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving(monkeypatch) as chief, running() as (board, told):
            board.watch(KEY, ADDRESS)
            await wait_for_report(board, 3)
            chief.is_failing = True
            await asyncio.sleep(SILENT_SECONDS / 2)
            assert board.silence(KEY) == ""
            await waiting_tasks.until(lambda: board.silence(KEY) != "", seconds=10)
            assert board.silence(KEY).startswith(f"{ADDRESS}:{names.STATUS_PORT}: 503")
            assert board.report(KEY) is not None  # what it told last still holds
            asked, count = chief.asked, told[KEY]
            await waiting_tasks.until(lambda: chief.asked > asked, seconds=10)
            assert told[KEY] == count == 2
            chief.is_failing = False
            await waiting_tasks.until(lambda: board.silence(KEY) == "", seconds=10)
            assert told[KEY] == 3

    asyncio.run(main())
