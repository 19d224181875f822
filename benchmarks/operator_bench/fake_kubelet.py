"""Nodes that are not there, and pods that only pretend to run.

    python -m operator_bench.fake_kubelet --kubeconfig FILE --nodes 10 --run-seconds 20 latency=2

Every pod that the scheduler binds to one of the nodes turns Running and Ready after 0.2 s, and Succeeded after its run
time; one that is deleted goes at once. What a real kubelet writes on the way is written as well: one status when a pod
starts and one when it ends. Pods that carry a worker config (imagetrain.dev) leave a real worker's outcome document
as their termination message, and answer /progress when --progress is given.
"""

import argparse
import asyncio
import collections
import dataclasses
import datetime as dt
import pathlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import orjson
import uvloop
from aiohttp import web

from imagetrain_api import job, names, progress, schema
from operator_bench import api_client

AGENT = "fake-kubelet"
POD_RANGE = "10.128.0.0/9"  # the pods' addresses; no packet leaves the cluster's client namespace
START_SECONDS = 0.2
_NODE_PREFIX = "fake-"
_CAPACITY = {"cpu": "10000", "memory": "64Ti", "pods": "2000", "nvidia.com/gpu": "10000", "ephemeral-storage": "64Ti"}
_PODS = "/api/v1/pods"
_BOUND = {"fieldSelector": "spec.nodeName!="}
_RETRIES = 5
_EPOCH_STEPS = 100
_SUMMARY = {
    "epochs": 20,
    "steps": 460,
    "images_per_second": 5120.5,
    "training_seconds": 5.7,
    "test_accuracy": 0.9944,
    "test_loss": 0.0213,
    "artifacts": [
        {
            "format": name,
            "sizeBytes": 123456,
            "accuracy": 0.994398,
            "latencyMilliseconds": 0.1234,
            "path": f"models/{name}",
            "sha256": 64 * "0",
        }
        for name in job.FORMATS
    ],
}


@dataclasses.dataclass(slots=True)
class Pod:
    """A pod on one of the nodes."""

    manifest: Mapping[str, Any]
    address: str
    started: float = 0.0
    timer: asyncio.TimerHandle | None = None
    is_going: bool = False

    @property
    def path(self) -> str:
        """Path of the pod in the API."""
        metadata = self.manifest["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def stop_timer(self) -> None:
        """Cancel what was to come next."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FakeKubelet:
    """The kubelet of all nodes.

    Args:
        client: as an administrator.
        run_seconds: time from Running to Succeeded by namespace; "" stands for every other namespace.
    """

    def __init__(self, client: api_client.ApiClient, run_seconds: Mapping[str, float]) -> None:
        self._client = client
        self._run_seconds = run_seconds
        self._pods: dict[str, Pod] = {}  # by uid
        self._by_address: dict[str, Pod] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._addresses = 0
        self.counts: collections.Counter[str] = collections.Counter()

    async def register(self, number: int) -> None:
        """Make a node, Ready and without taints."""
        name = f"{_NODE_PREFIX}{number}"
        await self._client.request("POST", "/api/v1/nodes", build_node(name))
        status = build_node_status(name, number)
        await self._client.request("PATCH", f"/api/v1/nodes/{name}/status", status, kind=api_client.MERGE_PATCH)
        # Admission taints a new node as not ready; the controller that would lift it is not needed otherwise.
        untaint = {"spec": {"taints": None}}
        await self._client.request("PATCH", f"/api/v1/nodes/{name}", untaint, kind=api_client.MERGE_PATCH)

    async def follow(self, ready: asyncio.Event) -> None:
        """Act on every pod of the nodes, for ever; a broken watch is started again from a list."""
        while True:
            listed = await self._client.request("GET", _PODS, params=_BOUND)
            for pod in listed["items"]:
                self.see("ADDED", pod)
            ready.set()
            try:
                params = {**_BOUND, "resourceVersion": listed["metadata"]["resourceVersion"]}
                async for kind, pod in self._client.watch(_PODS, params):
                    self.see(kind, pod)
            except (aiohttp.ClientError, api_client.AnswerError) as error:
                print(f"The watch broke: {error}", flush=True)

    def see(self, kind: str, manifest: Mapping[str, Any]) -> None:
        """Take notice of a pod's state."""
        metadata = manifest["metadata"]
        pod = self._pods.get(metadata["uid"])
        if kind == "DELETED":
            if pod is not None:
                pod.stop_timer()
                del self._pods[metadata["uid"]]
                self._by_address.pop(pod.address, None)
        elif pod is None:
            self._add(manifest)
        elif metadata.get("deletionTimestamp") and not pod.is_going:
            self._finalize(pod)

    def _add(self, manifest: Mapping[str, Any]) -> None:
        if not manifest["spec"]["nodeName"].startswith(_NODE_PREFIX):
            return
        pod = Pod(manifest, self._next_address())
        self._pods[manifest["metadata"]["uid"]] = pod
        self._by_address[pod.address] = pod
        if manifest["metadata"].get("deletionTimestamp"):
            self._finalize(pod)
        elif manifest["status"]["phase"] == "Pending":
            self._later(pod, START_SECONDS, self._start)

    def _finalize(self, pod: Pod) -> None:
        pod.stop_timer()
        pod.is_going = True
        self._spawn(self._delete(pod))

    def _next_address(self) -> str:
        self._addresses += 1
        high, low = divmod(self._addresses, 1 << 16)
        return f"10.{128 + high}.{low >> 8}.{low & 255}"

    def _later(self, pod: Pod, seconds: float, act: Callable[[Pod], Awaitable[None]]) -> None:
        pod.timer = asyncio.get_running_loop().call_later(seconds, lambda: self._spawn(act(pod)))

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.counts["errors"] += 1
            print(f"{type(error).__name__}: {error}", flush=True)

    async def _start(self, pod: Pod) -> None:
        pod.started = time.time()
        if await self._write(pod, build_running(pod.manifest, pod.address, pod.started)) and not pod.is_going:
            self.counts["running"] += 1
            namespace = pod.manifest["metadata"]["namespace"]
            self._later(pod, self._run_seconds.get(namespace, self._run_seconds[""]), self._end)

    async def _end(self, pod: Pod) -> None:
        if await self._write(pod, build_succeeded(pod.manifest, pod.started, time.time())):
            self.counts["succeeded"] += 1

    async def _delete(self, pod: Pod) -> None:
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.manifest["metadata"]["uid"]}}
        if await self._send("DELETE", pod.path, body, api_client.JSON):
            self.counts["deleted"] += 1

    async def _write(self, pod: Pod, status: Mapping[str, Any]) -> bool:
        return await self._send("PATCH", f"{pod.path}/status", {"status": status}, api_client.STRATEGIC_PATCH)

    async def _send(self, method: str, path: str, body: object, kind: str) -> bool:
        """Return whether the write was made; one to a pod that has gone meanwhile is not."""
        for attempt in range(1, _RETRIES + 1):
            try:
                await self._client.request(method, path, body, kind=kind)
            except api_client.AnswerError as error:
                if error.status in (404, 409):
                    return False
                if error.status < 500 and error.status != 429:
                    raise
            except aiohttp.ClientError as error:
                print(f"{method} {path}: {error}", flush=True)
            else:
                return True
            await asyncio.sleep(0.2 * attempt)
        raise TimeoutError(f"{method} {path} did not succeed in {_RETRIES} attempts")

    async def answer_progress(self, request: web.Request) -> web.Response:
        """Answer /progress for the pod whose address was called: training at 10 steps a second."""
        transport = request.transport
        address = transport.get_extra_info("sockname")[0] if transport is not None else ""
        pod = self._by_address.get(address)
        if pod is None or not pod.started:
            raise web.HTTPServiceUnavailable
        self.counts["progress"] += 1
        step = int(10 * (time.time() - pod.started))
        return web.Response(body=orjson.dumps(build_progress(step)), content_type="application/json")


def build_node(name: str) -> dict[str, Any]:
    """Return a node."""
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def build_node_status(name: str, number: int) -> dict[str, Any]:
    """Return the status of a node with room for everything."""
    address = {"type": "InternalIP", "address": f"10.200.0.{number + 1}"}
    pressures = [_condition(kind, "False") for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")]
    return {
        "status": {
            "capacity": _CAPACITY,
            "allocatable": _CAPACITY,
            "addresses": [address, {"type": "Hostname", "address": name}],
            "conditions": [_condition("Ready", "True"), *pressures],
        }
    }


def build_running(manifest: Mapping[str, Any], address: str, started: float) -> dict[str, Any]:
    """Return the status that a kubelet writes when all containers have started and are ready."""
    done = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": timestamp(started)}}
    return {
        "phase": "Running",
        "startTime": timestamp(started),
        "hostIP": "10.200.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": _pod_conditions(is_ready=True),
        "initContainerStatuses": _containers(manifest, "initContainers", {"state": done, "ready": True}),
        "containerStatuses": _containers(
            manifest,
            "containers",
            {"state": {"running": {"startedAt": timestamp(started)}}, "ready": True, "started": True},
        ),
    }


def build_succeeded(manifest: Mapping[str, Any], started: float, ended: float) -> dict[str, Any]:
    """Return the status that a kubelet writes when all containers have ended well."""
    ending = {
        "exitCode": 0,
        "reason": "Completed",
        "startedAt": timestamp(started),
        "finishedAt": timestamp(ended),
        **outcome(manifest),
    }
    state = {"state": {"running": None, "terminated": ending}, "ready": False, "started": False}
    return {
        "phase": "Succeeded",
        "conditions": _pod_conditions(is_ready=False),
        "containerStatuses": _containers(manifest, "containers", state),
    }


def outcome(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the termination message of a worker of ours (as long as a real one), nothing for other pods."""
    metadata = manifest["metadata"]
    if names.ANNOTATION_WORKER_CONFIG not in metadata.get("annotations", {}):
        return {}
    document = progress.WorkerOutcome(exit_code=0, reason="Completed")
    if metadata["labels"].get(names.LABEL_RANK) == "0":
        uri = f"s3://bucket/models/runs/{metadata['labels'][names.LABEL_JOB]}/manifest.json"
        message = f"The models are published: {uri}"
        document = dataclasses.replace(document, message=message, manifest_uri=uri, summary=_SUMMARY)
    return {"message": orjson.dumps(schema.encode(document)).decode()}


def build_progress(step: int) -> dict[str, Any]:
    """Return the progress of a worker that has done `step` steps."""
    return schema.encode(
        progress.Progress(
            phase="training",
            epoch=step // _EPOCH_STEPS,
            total_epochs=20,
            step=step,
            total_steps=20 * _EPOCH_STEPS,
            images=64 * step,
            images_per_second=640.0 + step % 7,
            eta_seconds=max(0.0, 200.0 - step / 10),
            loss=2.0 / (1 + step),
            accuracy=1 - 1 / (2 + step),
            updated_at=time.time(),
        )
    )


def timestamp(unix_seconds: float) -> str:
    """Return a time as Kubernetes writes it."""
    return dt.datetime.fromtimestamp(unix_seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(kind: str, status: str) -> dict[str, str]:
    now = timestamp(time.time())
    return {"type": kind, "status": status, "lastTransitionTime": now, "reason": "Fake", "message": "fake"}


def _pod_conditions(*, is_ready: bool) -> list[dict[str, str]]:
    now = timestamp(time.time())
    lasting = [
        {"type": kind, "status": "True", "lastTransitionTime": now}
        for kind in ("PodReadyToStartContainers", "Initialized", "PodScheduled")
    ]
    ready = {"status": "True"} if is_ready else {"status": "False", "reason": "PodCompleted"}
    return [*lasting, *({"type": kind, "lastTransitionTime": now, **ready} for kind in ("Ready", "ContainersReady"))]


def _containers(manifest: Mapping[str, Any], field: str, state: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "containerID": f"fake://{manifest['metadata']['uid']}",
            "restartCount": 0,
            **state,
        }
        for container in manifest["spec"].get(field, [])
    ]


async def serve(arguments: argparse.Namespace) -> None:
    """Play kubelet until SIGTERM, then print what was done."""
    stop, ready = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with api_client.ApiClient(arguments.kubeconfig, agent=AGENT) as client:
        kubelet = FakeKubelet(client, parse_run_seconds(arguments.run_seconds))
        for number in range(arguments.nodes):
            await kubelet.register(number)
        if arguments.progress:
            await serve_progress(kubelet)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(kubelet.follow(ready))
            await ready.wait()
            print("ready", flush=True)
            await stop.wait()
            following.cancel()
    print(orjson.dumps(kubelet.counts).decode(), flush=True)


async def serve_progress(kubelet: FakeKubelet) -> None:
    """Listen on the workers' status port, on every address: each pod's leads here."""
    application = web.Application()
    application.router.add_get(names.PATH_PROGRESS, kubelet.answer_progress)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", names.STATUS_PORT).start()  # noqa: S104 - in the cluster's client namespace


def parse_run_seconds(words: list[str]) -> dict[str, float]:
    """Parse `20 latency=2`: 20 s in every namespace, but 2 s in `latency`."""
    pairs = (word.rpartition("=") for word in words)
    return {namespace: float(seconds) for namespace, _, seconds in pairs}


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=pathlib.Path, required=True)
    parser.add_argument("--nodes", type=int, default=10)
    parser.add_argument("--run-seconds", nargs="+", default=["20"], metavar="[NAMESPACE=]SECONDS")
    parser.add_argument("--progress", action="store_true", help="answer /progress for every pod")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
