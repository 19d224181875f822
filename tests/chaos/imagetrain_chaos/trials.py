"""A run among all that its faults need, from its start to what is left of it."""

import contextlib
import dataclasses
import pathlib
import secrets
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import fault_proxy
import s3_servers
from imagetrain_chaos import (
    clock,
    disk,
    faults,
    final_state,
    gate,
    jobs,
    leaks,
    local_network,
    memory,
    plan,
    records,
    runs,
)

_DISK_BYTES = 24 << 20
_S3 = frozenset({"s3_outage", "s3_flaky"})
_NETWORK = frozenset({"partition", "dns"})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What to run, and what may happen to it.

    Attributes:
        folder: everything lies in here.
        data: folder of the packed images.
        workers: size of the group.
        epochs: of jobs.STEPS_PER_EPOCH steps.
        kinds: of the faults that are planned.
        pace_seconds: how long each step is held up.
        server: an S3 server; it holds data and output where given.
        spec: more of the manifest's spec.
    """

    folder: pathlib.Path
    data: pathlib.Path
    workers: int
    epochs: int
    kinds: Collection[str] = ()
    pace_seconds: float = jobs.PACE_SECONDS
    server: s3_servers.VersitygwServer | None = None
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A trial that has started."""

    trial: Trial
    run: runs.Run
    site: faults.Site
    output_uri: str

    def finish(self, planned: Iterable[plan.Fault] = (), timeout_seconds: float = 180) -> "Finished":
        """Wait for the run's good end and look at what it leaves."""
        event = self.run.wait_to_end(timeout_seconds)
        return Finished(
            planned=tuple(planned),
            event=event,
            records=tuple(self.run.failures()),
            state=final_state.load(self.output_uri, self.run.run_id),
            metrics=self.run.metrics.get(0, ""),
            leaks=tuple(leaks.find_leaks(self.run, self.output_uri)),
            met=dict(self.site.met),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a run that ended well leaves.

    Attributes:
        planned: what happened to it.
        event: its last line.
        records: its failures.
        state: its last checkpoint.
        metrics: the newest answer of rank 0; empty where it is not reached from here.
        leaks: what it should not have left.
        met: at what of a save processes were killed, and how often.
    """

    planned: tuple[plan.Fault, ...]
    event: Mapping[str, Any]
    records: tuple[records.Record, ...]
    state: final_state.FinalState
    metrics: str
    leaks: tuple[str, ...]
    met: Mapping[str, int]

    def metric(self, name: str, label: str = "") -> float:
        """Return the sum of a metric over its labels, or over those with `label`; 0 where it is not told."""
        lines = [line for line in self.metrics.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if label in line)


@contextlib.contextmanager
def started(trial: Trial) -> Iterator[Running]:
    """Start a trial's run, and end whatever is left of it with the block."""
    kinds = set(trial.kinds)
    held = gate.GateFolder(trial.folder / "gate")
    held.make(trial.pace_seconds)
    with contextlib.ExitStack() as stack:
        site = faults.Site(
            gate=held,
            proxy=stack.enter_context(fault_proxy.running(trial.server)) if trial.server and kinds & _S3 else None,
            network=stack.enter_context(local_network.running(trial.folder / "network", trial.workers))
            if kinds & _NETWORK
            else None,
            wall_clock=clock.Clock(trial.folder / "clock") if "clock_jump" in kinds else None,
            small_disk=disk.SmallDisk(trial.folder / "work", _DISK_BYTES) if "disk_full" in kinds else None,
            memory_group=stack.enter_context(memory.memory_group()) if "out_of_memory" in kinds else None,
        )
        data_uri, output_uri = _place_data(trial)
        document = jobs.build_manifest(
            data_uri, output_uri, workers=trial.workers, epochs=trial.epochs, **dict(trial.spec)
        )
        manifest = jobs.write_manifest(trial.folder / "job.yaml", document)
        run = stack.enter_context(runs.Run(_plan_launch(trial, site, manifest)))
        yield Running(trial=trial, run=run, site=site, output_uri=output_uri)


def _plan_launch(trial: Trial, site: faults.Site, manifest: pathlib.Path) -> runs.Launch:
    prefix: list[str] = []
    environment: dict[str, str] = {}
    command: list[str] = [str(runs.COMMAND)]
    if site.memory_group is not None:
        prefix += site.memory_group.prefix()
    if site.network is not None:
        prefix += site.network.prefix()
        environment |= site.network.environment()
        command = [sys.executable, "-m", "imagetrain_chaos.networked_run"]
    if site.small_disk is not None:
        prefix += site.small_disk.prefix()
    server = site.proxy.server if site.proxy is not None else trial.server
    if server is not None:
        environment |= server.environment()
        if site.network is not None:
            port = int(server.endpoint_url.rpartition(":")[2])
            environment["AWS_ENDPOINT_URL"] = site.network.open_door(port)
    if site.wall_clock is not None:
        environment |= site.wall_clock.environment()
    return runs.Launch(
        manifest=manifest,
        folder=trial.folder / "work",
        gate=site.gate,
        prefix=prefix,
        command=command,
        environment=environment,
        has_own_mounts=site.small_disk is not None,
    )


def _place_data(trial: Trial) -> tuple[str, str]:
    """Return the URIs of data and output; on S3 the data is copied into a new bucket."""
    if trial.server is None:
        return f"{trial.data.as_uri()}/", f"{(trial.folder / 'out').as_uri()}/"
    bucket = trial.server.create_bucket(f"chaos-{secrets.token_hex(6)}")
    client = trial.server.client()
    for path in sorted(trial.data.rglob("*")):
        if path.is_file():
            client.put_object(Bucket=bucket, Key=f"data/{path.relative_to(trial.data)}", Body=path.read_bytes())
    return f"s3://{bucket}/data/", f"s3://{bucket}/out/"


def missing(kinds: Collection[str]) -> str:
    """Return why this machine cannot do these faults, or nothing."""
    if _NETWORK & set(kinds) and (reason := local_network.missing()):
        return reason
    if "out_of_memory" in kinds and (reason := memory.missing()):
        return reason
    if "disk_full" in kinds and (reason := disk.missing()):
        return reason
    return ""


def plan_trial(trial: Trial, seed: int, *, first_step: int = 10, gap_steps: int = 20) -> tuple[plan.Fault, ...]:
    """Plan one fault of each of the trial's kinds, in their order."""
    return plan.plan_faults(seed, list(trial.kinds), workers=trial.workers, first_step=first_step, gap_steps=gap_steps)


def tell_plan(seed: int, planned: Iterable[plan.Fault]) -> None:
    """Print a plan with the seed that replays it."""
    sys.stdout.write(f"IMAGETRAIN_CHAOS_SEED={seed}\n" + "".join(f"  {each}\n" for each in planned))
