"""The operator's own HTTP server: /metrics, /healthz (restart me), /readyz (I serve)."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from imagetrain_operator import metrics

Check = Callable[[], str]  # returns what is wrong; "" where nothing is

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus, "Exposition formats"


@contextlib.asynccontextmanager
async def serve(
    host: str, port: int, figures: metrics.OperatorMetrics, is_alive: Check, is_ready: Check
) -> AsyncIterator[int]:
    """Serve until the context ends; yield the port, which the system chooses where 0 was asked for."""

    async def show_metrics(_: web.Request) -> web.Response:  # aiohttp takes coroutines alone
        return web.Response(body=figures.render(), headers={"Content-Type": _CONTENT_TYPE})

    application = web.Application()
    application.add_routes(
        [
            web.get("/metrics", show_metrics),
            web.get("/healthz", _answer(is_alive)),
            web.get("/readyz", _answer(is_ready)),
        ]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _answer(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:  # aiohttp takes coroutines alone
        trouble = check()
        return web.Response(text=f"{trouble or 'ok'}\n", status=503 if trouble else 200)

    return handle
