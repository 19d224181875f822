"""A leader whose API server falls silent. What needs an answering one is in test_api_server.py."""

import asyncio
import time

import kopf
from aiohttp import web

from imagetrain_operator.cluster import client, lease

DURATION_SECONDS = 3.0


async def take_and_hold_while_the_server_is_silent() -> float:
    """Return how long a leader held its lease, from the one answer that it got."""
    is_asked_again = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            return web.json_response(await request.json())
        if not is_asked_again.is_set():
            is_asked_again.set()
            return web.json_response({"message": "not there", "reason": "NotFound"}, status=404)
        await asyncio.sleep(60)
        return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        connection = kopf.ConnectionInfo(server=f"http://127.0.0.1:{runner.addresses[0][1]}")
        async with client.ApiClient(lambda: connection, lambda _verb, _code: None) as api:
            election = lease.LeaderElection(
                api, namespace="system", name="operator", identity="first", duration_seconds=DURATION_SECONDS
            )
            await election.acquire()
            began = time.monotonic()
            await election.hold()
            return time.monotonic() - began
    finally:
        await runner.cleanup()


def test_leader_gives_up_before_another_may_act_though_its_request_still_waits() -> None:
    held_seconds = asyncio.run(asyncio.wait_for(take_and_hold_while_the_server_is_silent(), 30))
    assert held_seconds < DURATION_SECONDS
