"""From a valid job to its worker group: the one pure function behind local runs and the operator."""

import dataclasses
from collections.abc import Mapping, Sequence

from imagetrain_api import names
from imagetrain_api.job import ImageTrainingJob
from imagetrain_api.worker_config import WorkerConfig, WorkerEndpoint


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGroupPlan:
    """N identical workers. A worker's rank is the only thing that the place adds (`names.ENV_RANK`).

    Attributes:
        name: the job's name.
        namespace: the job's namespace.
        command: command line of every worker.
        environment: environment of every worker, beside the rank and the credentials.
        config: the document that lies at `environment[names.ENV_CONFIG]`.
    """

    name: str
    namespace: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    config: WorkerConfig

    @property
    def workers(self) -> int:
        """Size of the group."""
        return len(self.config.endpoints)


def plan_worker_group(
    job: ImageTrainingJob,
    *,
    run_id: str,
    endpoints: Sequence[WorkerEndpoint],
    config_path: str,
    environment: Mapping[str, str],
) -> WorkerGroupPlan:
    """Plan the worker group of a job.

    Args:
        job: a valid job.
        run_id: identity of the run over all its restarts.
        endpoints: one a rank, from the place (`kubernetes_endpoints`, or free ports of this machine).
        config_path: where a worker finds its config document.
        environment: what else the place tells every worker.

    Raises:
        ValidationError: the endpoints do not fit the job.
    """
    config = WorkerConfig(run_id=run_id, job=job, endpoints=tuple(endpoints))
    return WorkerGroupPlan(
        name=job.metadata.name,
        namespace=job.metadata.namespace,
        command=names.COMMAND,
        environment={**environment, names.ENV_CONFIG: config_path},
        config=config,
    )


def kubernetes_endpoints(job: ImageTrainingJob, attempt: int = 0) -> tuple[WorkerEndpoint, ...]:
    """Return the endpoints of an attempt's pods behind the headless Service that bears the job's name.

    Source: Kubernetes, "Job with Pod-to-Pod Communication": `<job>-<index>.<service>`.
    """
    name = job.metadata.name
    return tuple(
        WorkerEndpoint(
            host=f"{names.child_job(name, attempt)}-{rank}.{name}",
            collective_port=names.COLLECTIVE_PORT,
            status_port=names.STATUS_PORT,
            rendezvous_port=names.RENDEZVOUS_PORT,
        )
        for rank in range(job.spec.workers)
    )
