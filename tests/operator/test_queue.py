"""The work queue, on a real event loop."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from imagetrain_operator import observed
from imagetrain_operator.cluster import queue

A, B = observed.Key("ns", "a"), observed.Key("ns", "b")


def run(test: Callable[[queue.WorkQueue], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(test(queue.WorkQueue(asyncio.get_running_loop().time)), 5)

    asyncio.run(main())


async def is_empty(work: queue.WorkQueue) -> bool:
    try:
        work.done(await asyncio.wait_for(work.get(), 0.05))
    except TimeoutError:
        return True
    return False


def test_key_added_many_times_comes_once() -> None:
    async def test(work: queue.WorkQueue) -> None:
        for _ in range(200):
            work.add(A)
        assert len(work) == 1
        work.done(await work.get())
        assert await is_empty(work)

    run(test)


def test_key_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    async def test(work: queue.WorkQueue) -> None:
        work.add(A)
        key = await work.get()
        work.add(A)
        assert await is_empty(work)  # never two workers on one job
        work.done(key)
        assert await work.get() == A

    run(test)


def test_delayed_key_comes_when_its_time_has_come_and_only_once() -> None:
    async def test(work: queue.WorkQueue) -> None:
        begun = asyncio.get_running_loop().time()
        work.add_after(A, 0.4)
        work.add_after(A, 0.2)  # the earlier time holds
        work.add_after(A, 0.6)
        assert await is_empty(work)
        work.done(await work.get())
        assert 0.2 <= asyncio.get_running_loop().time() - begun < 0.4
        await asyncio.sleep(0.6 - (asyncio.get_running_loop().time() - begun))
        assert await is_empty(work)

    run(test)


def test_cancelled_key_does_not_come() -> None:
    async def test(work: queue.WorkQueue) -> None:
        work.add_after(A, 0.01)
        work.cancel(A)
        assert await is_empty(work)

    run(test)


def test_failures_delay_a_key_longer_each_time_until_they_are_forgotten() -> None:
    async def test(work: queue.WorkQueue) -> None:
        delays = [work.retry(A) for _ in range(12)]
        assert all(0.5 * 0.1 * 2**n <= delay <= 0.1 * 2**n for n, delay in enumerate(delays[:9]))
        assert max(delays) <= 60
        work.forget(A)
        assert work.retry(A) <= 0.1

    run(test)


def test_server_that_asks_for_time_gets_it() -> None:
    async def test(work: queue.WorkQueue) -> None:
        assert work.retry(A, at_least_seconds=30) == pytest.approx(30)

    run(test)


def test_two_workers_share_the_keys() -> None:
    async def test(work: queue.WorkQueue) -> None:
        work.add(A)
        work.add(B)
        assert {await work.get(), await work.get()} == {A, B}

    run(test)
