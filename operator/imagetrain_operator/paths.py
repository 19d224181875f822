"""Paths of the API server that the operator uses; its RBAC is their list."""

from imagetrain_api import names

_JOBS = f"/apis/{names.GROUP}/{names.VERSION}"


def training_jobs(namespace: str | None) -> str:
    """Return the collection of ImageTrainingJobs of one namespace, or of all."""
    return f"{_JOBS}/namespaces/{namespace}/{names.PLURAL}" if namespace else f"{_JOBS}/{names.PLURAL}"


def training_job(namespace: str, name: str) -> str:
    """Return one ImageTrainingJob."""
    return f"{training_jobs(namespace)}/{name}"


def training_job_status(namespace: str, name: str) -> str:
    """Return the status subresource of one ImageTrainingJob."""
    return f"{training_job(namespace, name)}/status"


def child_jobs(namespace: str | None) -> str:
    """Return the collection of Jobs of one namespace, or of all."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" if namespace else "/apis/batch/v1/jobs"


def pods(namespace: str | None) -> str:
    """Return the collection of pods of one namespace, or of all."""
    return f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"


def pod(namespace: str, name: str) -> str:
    """Return one pod."""
    return f"{pods(namespace)}/{name}"


def services(namespace: str) -> str:
    """Return the collection of Services of one namespace."""
    return f"/api/v1/namespaces/{namespace}/services"


def events(namespace: str) -> str:
    """Return the collection of Events of one namespace."""
    return f"/api/v1/namespaces/{namespace}/events"


def nodes() -> str:
    """Return the collection of nodes."""
    return "/api/v1/nodes"
