"""The client of the benchmark: creates jobs, watches them to their end, and prints when each step was seen, as JSON.

    python -m operator_bench.load --kubeconfig FILE --system SYSTEM --namespace load --jobs 1000 --parallel 16

Times are Unix seconds of this machine's clock, as those of the audit log.
"""

import argparse
import asyncio
import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
import uvloop

from operator_bench import api_client, systems

AGENT = "bench-client"
STALL_SECONDS = 150.0
"""Give up when no job has ended for so long."""
_ENDS = ("Succeeded", "Failed")


@dataclasses.dataclass(slots=True)
class Seen:
    """What the client saw.

    Attributes:
        first_create: just before the first POST.
        last_create: when all jobs were made.
        ended: job name: when its last condition was seen.
        failed: names of jobs that failed.
        is_stalled: the rest was given up, as no job had ended for long.
    """

    first_create: float = 0.0
    last_create: float = 0.0
    ended: dict[str, float] = dataclasses.field(default_factory=dict)
    failed: list[str] = dataclasses.field(default_factory=list)
    is_stalled: bool = False


class Load:
    """Jobs of one system in one namespace."""

    def __init__(self, client: api_client.ApiClient, kind: systems.JobKind, namespace: str) -> None:
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._changed = asyncio.Event()
        self.seen = Seen()

    async def run(self, jobs: int, *, parallel: int, one_by_one_pause: float | None) -> None:
        """Create all jobs, as fast as `parallel` requests allow, or each when the one before has ended."""
        await self._make_namespace()
        watching = asyncio.ensure_future(self._watch(await self._version()))
        watching.add_done_callback(lambda _: self._changed.set())  # it ends by an error alone
        self.seen.first_create = time.time()
        remaining = iter(f"j{number:05d}" for number in range(jobs))
        if one_by_one_pause is None:
            await asyncio.gather(*(self._create_all(remaining) for _ in range(parallel)))
            self.seen.last_create = time.time()
            await self._wait(jobs, watching)
        else:
            for number, name in enumerate(remaining, start=1):
                await self._create(name)
                await self._wait(number, watching)
                await asyncio.sleep(one_by_one_pause)
        watching.cancel()

    async def _make_namespace(self) -> None:
        """Make the namespace and wait for the account that its pods run as."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        await self._client.request("POST", "/api/v1/namespaces", manifest)
        account = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/default"
        for _ in range(100):
            try:
                await self._client.request("GET", account)
            except api_client.AnswerError:
                await asyncio.sleep(0.1)
            else:
                return
        raise TimeoutError(f"{account} was not made within 10 s")

    async def _version(self) -> str:
        listed = await self._client.request("GET", self._path, params={"limit": "1"})
        version: str = listed["metadata"]["resourceVersion"]
        return version

    @property
    def _path(self) -> str:
        return f"/apis/{self._kind.api_version}/namespaces/{self._namespace}/{self._kind.plural}"

    async def _watch(self, version: str) -> None:
        """Watch for ever: the API server ends the watch of a client that falls behind."""
        while True:
            async for _, job in self._client.watch(self._path, {"resourceVersion": version}):
                version = job["metadata"]["resourceVersion"]
                self._note(job, time.time())

    def _note(self, job: Mapping[str, Any], now: float) -> None:
        """Note the end of a job; a successful one ends with the condition Succeeded, in all systems."""
        name = job["metadata"]["name"]
        holding = {one["type"] for one in job.get("status", {}).get("conditions", ()) if one["status"] == "True"}
        if name not in self.seen.ended and not holding.isdisjoint(_ENDS):
            self.seen.ended[name] = now
            if "Failed" in holding:
                self.seen.failed.append(name)
            self._changed.set()

    async def _create_all(self, names: Iterator[str]) -> None:
        for name in names:
            await self._create(name)

    async def _create(self, name: str) -> None:
        await self._client.request("POST", self._path, self._kind.manifest(name, self._namespace))

    async def _wait(self, jobs: int, watching: "asyncio.Future[None]") -> None:
        """Wait until so many jobs have ended, or none did for long."""
        while len(self.seen.ended) < jobs and not self.seen.is_stalled:
            try:
                await asyncio.wait_for(self._changed.wait(), STALL_SECONDS)
            except TimeoutError:
                self.seen.is_stalled = True
            if watching.done():
                watching.result()
            self._changed.clear()


async def run(arguments: argparse.Namespace) -> None:
    """Run the jobs and print what was seen."""
    connections = arguments.parallel + 4
    async with api_client.ApiClient(arguments.kubeconfig, agent=AGENT, connections=connections) as client:
        load = Load(client, systems.JOB_KINDS[arguments.system], arguments.namespace)
        await load.run(arguments.jobs, parallel=arguments.parallel, one_by_one_pause=arguments.one_by_one)
    print(orjson.dumps(load.seen).decode())


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=pathlib.Path, required=True)
    parser.add_argument("--system", choices=sorted(systems.JOB_KINDS), required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--one-by-one", type=float, metavar="SECONDS", help="a job at a time, with this pause between")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
