"""List and watch without a server: what is asked for again, and how soon."""

import asyncio
import collections.abc
import re
from typing import Any, NoReturn

import pytest

import waiting_tasks
from imagetrain_operator.cluster import client, errors, node_notices

SPOT = "aws-node-termination-handler/spot-itn"


def refuse_to_log_in() -> NoReturn:
    raise AssertionError("no connection is needed")


class ScriptedApi(client.ApiClient):
    """Answers each list with the next of some pages, and each watch with the next of some errors; then it is silent."""

    def __init__(self, pages: list[list[dict[str, Any]]], watches: list[errors.ClusterError]) -> None:
        super().__init__(refuse_to_log_in, lambda _verb, _code: None)
        self._pages = iter(pages)
        self._watches = iter(watches)
        self.is_silent = asyncio.Event()

    async def get(self, path: str, params: collections.abc.Mapping[str, str] | None = None) -> dict[str, Any]:
        del path, params
        return {"metadata": {"resourceVersion": "1"}, "items": next(self._pages)}

    async def watch(
        self, path: str, params: collections.abc.Mapping[str, str]
    ) -> collections.abc.AsyncIterator[dict[str, Any]]:
        del path, params
        for error in self._watches:
            raise error
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "2"}}}
        self.is_silent.set()
        await asyncio.Event().wait()


def build_node(uid: str, *taints: str) -> dict[str, Any]:
    marks = [{"key": taint, "effect": "NoSchedule"} for taint in taints]
    return {"metadata": {"name": "n1", "uid": uid}, "spec": {"taints": marks}}


def follow(pages: list[list[dict[str, Any]]], watches: list[errors.ClusterError]) -> tuple[int, bool]:
    """Watch nodes until the script is at its end; return how many notices were heard, and whether one is left."""

    async def main() -> tuple[int, bool]:
        heard = list[str]()
        api = ScriptedApi(pages, watches)
        notices = node_notices.NodeNotices(api, [SPOT], heard.append, lambda: None)
        async with waiting_tasks.running(notices.run()):
            await asyncio.wait_for(api.is_silent.wait(), 30)
        return len(heard), bool(notices.of_nodes(["n1"]))

    return asyncio.run(main())


EXPIRED = errors.ExpiredError("too old", 410)


@pytest.mark.parametrize(
    ("later", "heard", "is_left"),
    [
        ([build_node("a", SPOT)], 1, True),
        ([build_node("a")], 1, False),
        ([], 1, False),
        ([build_node("b", SPOT)], 2, True),  # another machine under the same name
    ],
)
def test_notice_is_what_the_newest_list_says(later: list[dict[str, Any]], heard: int, is_left: bool) -> None:  # noqa: FBT001
    assert follow([[build_node("a", SPOT)], later], [EXPIRED]) == (heard, is_left)


def test_who_may_list_but_not_watch_asks_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    failure = errors.RefusedError("webhook says no", 400)
    assert follow([[build_node("a")]] * 4, [failure] * 3) == (0, False)
    told = "\n".join(record.message for record in caplog.records)
    assert re.findall(r"trying again in ([\d.]+) s", told) == ["0.1", "0.2", "0.4"]
