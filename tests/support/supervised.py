"""A supervisor under a coordinator that says what a test wants, and what it tells of its training process."""

import dataclasses
import pathlib
import signal
from collections.abc import Callable
from typing import Any

import waiting
from imagetrain_api import job, names, plan, progress, worker_config
from imagetrain_trainer.rendezvous import messages
from imagetrain_trainer.worker import environment, forking, supervisor

SUPPORT = pathlib.Path(__file__).parent
MEMBERS = tuple(messages.Member(worker=rank, host=f"host-{rank}", collective_port=2222) for rank in range(2))


class Link:
    """A coordinator that says what a test wants."""

    def __init__(self) -> None:
        self.now = messages.Order()
        self.told = messages.MemberReport(rank=0, incarnation="none", host="", collective_port=1)

    def report(self, report: messages.MemberReport) -> None:
        self.told = messages.decode(messages.MemberReport, messages.encode(report))

    def order(self) -> messages.Order:
        return self.now

    def recoveries(self) -> tuple[progress.Recovery, ...]:
        return self.now.recoveries


@dataclasses.dataclass
class Harness:
    made: supervisor.Supervisor
    link: Link
    starter: forking.ForkServer
    variables: dict[str, str]
    outcome: progress.WorkerOutcome | None = None

    def order(self, action: str, generation: int = 1, **more: Any) -> None:
        self.link.now = messages.Order(action=action, generation=generation, members=MEMBERS, **more)

    def tick_until(self, reached: Callable[[], bool], seconds: float = 60.0) -> None:
        def tick() -> bool:
            self.outcome = self.outcome or self.made.tick()
            return reached()

        waiting.until(tick, seconds=seconds)

    def run(self, action: str, generation: int = 1) -> None:
        self.variables["STAND_IN"] = action
        self.order("run", generation)
        self.tick_until(lambda: self.link.told.generation == generation)

    def signal(self) -> None:
        self.made._signalled_at = -1000.0  # long after the one before
        self.made.take_signal(signal.SIGTERM, None)

    @property
    def state(self) -> str:
        return self.link.told.state


def build_worker(work_dir: pathlib.Path) -> environment.WorkerEnvironment:
    decoded = job.decode_job(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "digits"},
            "spec": {
                "workers": 2,
                "data": {"uri": "file:///data/"},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
                "output": {"uri": f"file://{work_dir}/out/"},
            },
        }
    )
    config = worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=plan.kubernetes_endpoints(decoded))
    (work_dir / "worker.json").write_text(worker_config.dump_worker_config(config))
    return environment.WorkerEnvironment(
        config=config,
        rank=0,
        work_dir=work_dir,
        termination_path=None,
        cpu_threads=None,
        log_format="text",
        incarnation="abc",
    )
