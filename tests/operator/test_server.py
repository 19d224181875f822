"""The probes and the metrics, asked over HTTP."""

import asyncio

import aiohttp

from imagetrain_operator import metrics, server


def ask(path: str, *, trouble: str = "", unready: str = "") -> tuple[int, str]:
    async def main() -> tuple[int, str]:
        figures = metrics.OperatorMetrics(lambda: (), lambda: 7)
        async with (
            server.serve("127.0.0.1", 0, figures, lambda: trouble, lambda: unready) as port,
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.text()

    return asyncio.run(main())


def test_sound_process_is_alive_and_ready() -> None:
    assert ask("/healthz") == (200, "ok\n")
    assert ask("/readyz") == (200, "ok\n")


def test_dead_watch_fails_the_liveness_probe_and_says_why() -> None:
    assert ask("/healthz", trouble="the watch is dead") == (503, "the watch is dead\n")


def test_process_that_cannot_reach_its_cluster_is_not_ready() -> None:
    assert ask("/readyz", unready="no cluster") == (503, "no cluster\n")
    assert ask("/healthz", unready="no cluster")[0] == 200  # a new start would not help


def test_metrics_are_prometheus_text() -> None:
    status, text = ask("/metrics")
    assert status == 200
    assert "imagetrain_operator_queue_depth 7.0" in text
