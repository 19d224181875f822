"""When events are asked for: each question makes the API server read every event of a namespace."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

import observations as o
from imagetrain_operator import observed
from imagetrain_operator.cluster import client, findings


class Events(client.ApiClient):
    """An API server with one event for every question."""

    def __init__(self) -> None:
        super().__init__(lambda: pytest.fail("nothing is to be asked over the network"), lambda *_: None)
        self.asked: list[str] = []

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:  # noqa: ARG002
        self.asked.append((params or {})["fieldSelector"])
        return {"items": [{"message": "told", "lastTimestamp": "2026-03-01T12:00:01Z"}]}


CHILD = o.build_child(started_at=o.NOW)
NOT_SEEN = o.build_child()  # the Job controller has not come to it
PLACED = o.pending(0, placed_at=o.NOW)
UNPLACED = o.pending(0, node="")
MISSING, MOUNT = "involvedObject.uid=job-0,reason=FailedCreate", "involvedObject.uid=pod-0-0,reason=FailedMount"


@pytest.mark.parametrize(
    ("child", "pods", "seconds", "asked"),
    [
        (CHILD, (), 4, [MISSING]),
        (CHILD, (), 3, []),
        (NOT_SEEN, (), 600, []),  # a busy Job controller: there are no events to find
        (CHILD, (PLACED,), 4, [MOUNT]),
        (CHILD, (PLACED,), 3, []),
        (CHILD, (o.pending(1, placed_at=o.after(3)), PLACED), 4, [MOUNT]),  # of the one that has waited longest
        (CHILD, (UNPLACED,), 600, []),  # the scheduler tells by a condition
    ],
)
def test_events_are_asked_for_once_controller_or_node_had_its_turn(
    child: observed.ChildJob, pods: tuple[observed.Pod, ...], seconds: float, asked: list[str]
) -> None:
    async def main() -> None:
        api = Events()
        told = asyncio.Event()
        looked_for = findings.Findings(api, lambda _: told.set())
        looked_for.investigate(o.KEY, (child,), pods, o.after(seconds))
        running = asyncio.ensure_future(looked_for.run())
        if asked:
            await asyncio.wait_for(told.wait(), 10)
        else:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        running.cancel()
        assert api.asked == asked
        found = looked_for.get(o.KEY)
        assert (found.denial, found.mount_problem) == (
            observed.Denial(message="told") if asked == [MISSING] else None,
            "told" if asked == [MOUNT] else "",
        )

    asyncio.run(main())


def test_denial_is_forgotten_once_pods_are_there() -> None:
    looked_for = findings.Findings(Events(), lambda _: None)
    looked_for.put_denial(o.KEY, observed.Denial(message="exceeded quota"))
    looked_for.investigate(o.KEY, (CHILD,), (), o.after(1))
    assert looked_for.get(o.KEY).denial
    looked_for.investigate(o.KEY, (CHILD,), (UNPLACED,), o.after(1))
    assert not looked_for.get(o.KEY).denial
