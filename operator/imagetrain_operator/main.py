"""`imagetrain-operator`: the command line, and the order in which the parts of the process start and end."""

import asyncio
import contextlib
import functools
import importlib.metadata
import logging
import os
import pathlib
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import click
import kopf
import uvloop

from imagetrain_api import names
from imagetrain_operator import handlers, logs, metrics, observed, paths, reconcile, server, settings
from imagetrain_operator.cluster import (
    audit,
    client,
    errors,
    findings,
    informer,
    lease,
    node_notices,
    progress_board,
    queue,
    recorder,
)
from imagetrain_operator.plan import children, group, parse

logger = logging.getLogger(__name__)

_SILENCE_SECONDS = 3 * client.WATCH_SILENCE_SECONDS  # of a child watch; it lists anew after one
_CRD_RETRY_SECONDS = 5.0
_CHILD_DELAY_SECONDS = 0.05  # the pods of a group change together
_DRAIN_SECONDS = 5.0
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

EXIT_LEASE_LOST = 3
_VERSION = importlib.metadata.version("imagetrain")


@click.command(context_settings={"auto_envvar_prefix": "IMAGETRAIN_OPERATOR", "show_default": True})
@click.option("--namespace", "namespaces", multiple=True, help="Namespace to serve; may be given several times.")
@click.option("--all-namespaces", is_flag=True, help="Serve every namespace.")
@click.option(
    "--trainer-image", default=f"imagetrain.dev/trainer:{_VERSION}", help="Image of workers whose job names none."
)
@click.option("--image-pull-policy", default="", help="Pull policy of those workers; empty: Kubernetes' own default.")
@click.option("--listen-host", default="0.0.0.0", help="Address of /metrics, /healthz and /readyz.")  # noqa: S104
@click.option("--listen-port", default=8080, type=click.IntRange(0, 65535), help="Port of the same; 0: any.")
@click.option("--lease-namespace", default="", help="Namespace of the Lease; empty: the pod's own, else default.")
@click.option(
    "--lease-name", default="imagetrain-operator", help="Name of the Lease that one of several operators holds."
)
@click.option("--lease-duration-seconds", default=15.0, help="How long a silent leader keeps the Lease.")
@click.option("--progress-interval-seconds", default=10.0, help="Time between two looks at a job's progress.")
@click.option(
    "--node-notice-taint",
    "node_notice_taints",
    multiple=True,
    help="Key of a taint that says that a node is about to be taken away; may be given several times.",
)
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", default="text", type=click.Choice(["text", "json"]))
@click.version_option(package_name="imagetrain")
def main(
    *,
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    trainer_image: str,
    lease_namespace: str,
    log_level: str,
    log_format: str,
    **rest: Any,  # noqa: ANN401  # options that OperatorSettings has under the same names
) -> None:
    """Run the operator of ImageTrainingJobs until it is told to stop.

    Every option can be given in the environment: --trainer-image as IMAGETRAIN_OPERATOR_TRAINER_IMAGE.
    """
    if bool(namespaces) == all_namespaces:
        raise click.UsageError("give --namespace NAME or --all-namespaces, and not both")
    logs.configure(log_level, log_format)
    try:
        chosen = settings.OperatorSettings(
            namespaces=namespaces,
            trainer_image=trainer_image,
            lease_namespace=lease_namespace or _own_namespace(),
            identity=_identity(),
            **rest,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        sys.exit(uvloop.run(Operator(chosen).run()))
    except errors.ClusterError as error:
        raise click.ClickException(str(error)) from error


def _identity() -> str:
    """Return a name that no other operator has at the same time.

    In a pod it is the pod's: a container that is started anew holds its predecessor's Lease at once.
    """
    host = socket.gethostname()
    return host if pathlib.Path(_NAMESPACE_FILE).exists() else f"{host}-{os.getpid()}-{secrets.token_hex(3)}"


def _own_namespace() -> str:
    try:
        return pathlib.Path(_NAMESPACE_FILE).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return "default"


class Operator:
    """One operator process."""

    def __init__(self, chosen: settings.OperatorSettings) -> None:
        self._settings = chosen
        self._kopf_settings = handlers.build_settings()
        self._jobs = reconcile.JobCache()
        self._informers: list[informer.Informer[Any]] = []
        self._audit: audit.WatchAudit | None = None
        self._is_reachable = False

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until the Lease is lost; return the exit status."""
        stop = asyncio.Event()
        _set_on_signals(stop)
        work = queue.WorkQueue(asyncio.get_running_loop().time)
        figures = metrics.OperatorMetrics(lambda: self._jobs, lambda: len(work))
        chosen = self._settings
        login = lambda: client.read_connection(self._kopf_settings)  # noqa: E731
        async with (
            server.serve(chosen.listen_host, chosen.listen_port, figures, self._trouble, self._not_ready) as port,
            client.ApiClient(login, figures.count_request) as api,
        ):
            logger.info("listening on port %d", port)
            election = lease.LeaderElection(
                api,
                namespace=chosen.lease_namespace,
                name=chosen.lease_name,
                identity=chosen.identity,
                duration_seconds=chosen.lease_duration_seconds,
            )
            if not await self._first(stop, self._become_leader(api, election)):
                return 0
            return await self._lead(api, work, figures, election, stop)

    async def _become_leader(self, api: client.ApiClient, election: lease.LeaderElection) -> None:
        """Wait for the cluster, the CRD and the Lease."""
        while True:
            try:
                for namespace in self._settings.namespaces or (None,):
                    await api.get(paths.training_jobs(namespace), {"limit": "1"})
                break
            except errors.NotFoundError:
                logger.warning("%s.%s is not installed: kubectl apply -k manifests/crd", names.PLURAL, names.GROUP)
            except errors.ClusterError as error:
                logger.warning("the ImageTrainingJobs cannot be listed: %s", error)
            await asyncio.sleep(_CRD_RETRY_SECONDS)
        self._is_reachable = True
        await election.acquire()

    async def _lead(
        self,
        api: client.ApiClient,
        work: queue.WorkQueue,
        figures: metrics.OperatorMetrics,
        election: lease.LeaderElection,
        stop: asyncio.Event,
    ) -> int:
        """Act as the one operator until it is told to stop or the Lease is lost; hand over before kopf's slow end."""
        figures.is_leader.set(1)
        around = self._build_surroundings(api, work, figures)
        self._informers = self._build_informers(around)
        self._audit = audit.WatchAudit(
            api,
            self._settings.namespaces,
            lambda: {job.key: job.resource_version for job in self._jobs},
            lambda kind, raw: handlers.take(kind, raw, self._jobs, work),
            self._settings.audit_interval_seconds,
        )
        tasks = [_start(each.run()) for each in self._informers]
        tasks += [_start(around.board.run()), _start(around.findings.run()), _start(self._audit.run())]
        if around.notices is not None:  # neither the start nor the probes wait for it: the right may be missing
            tasks.append(_start(around.notices.run()))
        stopping, holding, kopf_end = _start(_wait_for(stop)), _start(election.hold()), asyncio.Event()
        watching: asyncio.Task[None] | None = None
        try:
            if not await self._first(stop, self._sync()):
                return 0
            reconciler = reconcile.Reconciler(around)
            tasks += [_start(reconciler.run()) for _ in range(self._settings.reconcilers)]
            registry = handlers.build_registry(self._jobs, work, figures.watch_events.labels("ImageTrainingJob").inc)
            watching = _start(self._watch(registry, kopf_end, stop))
            logger.info("serving %s", ", ".join(self._settings.namespaces) or "all namespaces")
            done, _ = await asyncio.wait({stopping, watching, holding, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what ended it
            return EXIT_LEASE_LOST if holding in done else 0
        finally:
            await _stop([stopping, holding, *tasks])
            figures.is_leader.set(0)
            await election.release()
            kopf_end.set()
            if watching is not None:
                await asyncio.wait({watching}, timeout=_DRAIN_SECONDS)

    def _build_surroundings(
        self, api: client.ApiClient, work: queue.WorkQueue, figures: metrics.OperatorMetrics
    ) -> reconcile.Surroundings:
        chosen = self._settings
        pods = informer.PodCache()
        return reconcile.Surroundings(
            api=api,
            jobs=self._jobs,
            child_jobs=informer.ChildCache[observed.ChildJob](),
            pods=pods,
            queue=work,
            board=progress_board.ProgressBoard(chosen.progress_interval_seconds, work.add),
            findings=findings.Findings(api, work.add),
            recorder=recorder.Recorder(api, chosen.identity),
            metrics=figures,
            defaults=children.Defaults(image=chosen.trainer_image, image_pull_policy=chosen.image_pull_policy or None),
            status_interval_seconds=chosen.progress_interval_seconds,
            notices=self._build_node_notices(api, pods, work, figures) if chosen.node_notice_taints else None,
        )

    def _build_node_notices(
        self, api: client.ApiClient, pods: informer.PodCache, work: queue.WorkQueue, figures: metrics.OperatorMetrics
    ) -> node_notices.NodeNotices:
        def look_at_its_jobs(node: str) -> None:
            for key in pods.jobs_on(node):
                work.add(key)

        taints = self._settings.node_notice_taints
        count = figures.watch_events.labels("Node").inc
        return node_notices.NodeNotices(api, taints, look_at_its_jobs, count)

    def _build_informers(self, around: reconcile.Surroundings) -> list[informer.Informer[Any]]:
        """Return the watches of the children: of each namespace, or two of all."""
        soon = functools.partial(around.queue.add_after, seconds=_CHILD_DELAY_SECONDS)
        count = around.metrics.watch_events.labels
        made: list[informer.Informer[Any]] = []
        for namespace in self._settings.namespaces or (None,):
            made += [
                informer.Informer(
                    around.api,
                    paths.child_jobs(namespace),
                    names.LABEL_JOB,
                    parse.parse_child_job,
                    around.child_jobs,
                    soon,
                    count("Job").inc,
                ),
                informer.Informer(
                    around.api,
                    paths.pods(namespace),
                    names.LABEL_JOB,
                    parse.parse_pod,
                    around.pods,
                    soon,
                    count("Pod").inc,
                    group.remember,
                ),
            ]
        return made

    async def _sync(self) -> None:
        for each in self._informers:
            await each.is_synced.wait()

    async def _watch(self, registry: kopf.OperatorRegistry, end: asyncio.Event, stop: asyncio.Event) -> None:
        """Run kopf until `end` is set.

        kopf takes the signals for itself, and once it ends it waits for every task that was started after it, such as
        a kept connection to /metrics; so signals are taken back.
        """
        ours = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=self._kopf_settings,
            standalone=True,
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            stop_flag=end,
        )
        _set_on_signals(stop)
        await kopf.run_tasks(tasks, ignored=ours)

    @staticmethod
    async def _first(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
        """Await some work unless the process is to stop first; tell whether it was done."""
        stopping, working = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(work)
        done, pending = await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if working in done:
            working.result()
        return working in done

    def _trouble(self) -> str:
        """Return why the process should be started anew; "" where there is no reason."""
        if self._audit is not None and not self._audit.is_watch_alive:
            return "the watch of ImageTrainingJobs is dead: changes did not come"
        now = asyncio.get_running_loop().time()
        if any(now - each.last_heard > _SILENCE_SECONDS for each in self._informers):
            return "a watch of Jobs or pods has been silent for too long"
        return ""

    def _not_ready(self) -> str:
        return "" if self._is_reachable else "the API server does not list ImageTrainingJobs"


def _set_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


def _start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), _DRAIN_SECONDS)
