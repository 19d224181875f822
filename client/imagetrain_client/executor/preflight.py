"""Refusals before any worker starts, and the choice of the run to resume: a first look at a job's two stores."""

import json

from imagetrain_api import job as job_module
from imagetrain_api import names, pod_settings, schema
from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, versions
from imagetrain_trainer.storage import store as store_module


def open_store(uri: str, s3: job_module.S3Settings) -> store_module.ObjectStore:
    """Open a store of a job as its workers will.

    Raises:
        StorageError: it cannot be reached, is not there, or refuses the credentials.
    """
    settings = store_module.S3Settings(endpoint_url=s3.endpoint_url, region=s3.region)
    return store_module.open_store(uri, settings)


def check_dataset(job: job_module.ImageTrainingJob) -> None:
    """Refuse a job whose data set is not there.

    Raises:
        ObjectNotFoundError: there is no data set at `spec.data.uri`.
        StorageError: the store cannot be reached, is not there, or refuses the credentials.
    """
    settings = store_module.S3Settings(endpoint_url=job.spec.s3.endpoint_url, region=job.spec.s3.region)
    objects = versions.locate(job.spec.data.uri, settings).objects
    if not objects.exists(dataset.KEY):
        raise errors.ObjectNotFoundError(
            f"spec.data.uri must hold a packed data set, but {objects.uri} has no {dataset.KEY}. "
            f"Make one: imagetrain data pack SOURCE {objects.uri}"
        )


def check_output(job: job_module.ImageTrainingJob) -> None:
    """Refuse a job whose output cannot be written, by writing and deleting a tiny object.

    Raises:
        StorageError: the store cannot be reached, is not there, or refuses the write.
        DiskFullError: no space is left there.
    """
    open_store(job.spec.output.uri, job.spec.s3).probe_writable()


def find_kubernetes_settings(job: job_module.ImageTrainingJob) -> tuple[str, ...]:
    """Return the paths of the settings that a job has and that only Kubernetes heeds."""
    spec = job.spec
    parts = (
        ("spec", spec, _ONLY_IN_CLUSTER),
        ("spec.s3", spec.s3, ("credentials_secret",)),
        ("spec.worker", spec.worker, _ONLY_IN_PODS),
    )
    return tuple(
        f"{path}.{schema.camel_case(name)}"
        for path, document, fields in parts
        for name in fields
        if getattr(document, name) not in (None, False, (), {}, _DEFAULTS.get(name))
    )


_ONLY_IN_CLUSTER = ("suspend", "active_deadline_seconds", "ready_deadline_seconds", "ttl_seconds_after_finished")
_USED_LOCALLY = ("resources", "allow_cpu")
_ONLY_IN_PODS = tuple(
    field.name for field in schema.document_fields(pod_settings.WorkerSettings) if field.name not in _USED_LOCALLY
)
_DEFAULTS = {name: getattr(pod_settings.WorkerSettings(), name) for name in _ONLY_IN_PODS}


def find_run_to_resume(job: job_module.ImageTrainingJob, store: store_module.ObjectStore) -> str:
    """Return the newest unfinished run of the job that has a checkpoint under its output URI.

    Raises:
        ConfigError: there is none.
        StorageError: the store cannot be listed.
    """
    for run_id in sorted(store.list_folders(names.RUNS_PREFIX), reverse=True):
        if not is_finished(store, run_id) and find_owner(store, run_id) == job.metadata.name:
            return run_id
    raise errors.ConfigError(
        f"--resume must have something to resume, but {store.uri} holds no unfinished run of "
        f"{job.metadata.name} with a checkpoint. Run the job without --resume."
    )


def check_resumable(job: job_module.ImageTrainingJob, store: store_module.ObjectStore, run_id: str) -> None:
    """Refuse to resume a run that left nothing behind, or another job's.

    A run that is finished passes, for its workers end at once.

    Raises:
        ConfigError: it has neither a checkpoint nor a manifest under the output URI, or belongs to another job.
        StorageError: the store cannot be listed.
    """
    owner = find_owner(store, run_id)
    if owner is None and not is_finished(store, run_id):
        raise errors.ConfigError(
            f"--resume must name a run with a checkpoint, but {store.uri_of(names.run_prefix(run_id))} has none. "
            "Run the job without --resume."
        )
    if owner not in (None, job.metadata.name):
        raise errors.ConfigError(
            f"--resume must name a run of {job.metadata.name}, but {run_id} is one of {owner!r}. "
            "Give that job's manifest."
        )


def find_owner(store: store_module.ObjectStore, run_id: str) -> str | None:
    """Return the job that a run's newest complete checkpoint names, or None for a run without a checkpoint.

    Raises:
        StorageError: the store cannot be listed.
    """
    listed = store.list(f"{names.run_prefix(run_id)}/{names.CHECKPOINTS_PREFIX}")
    manifests = [info.key for info in listed if info.key.endswith(f"/{names.MANIFEST_KEY}")]
    if not manifests:
        return None
    try:
        return str(json.loads(store.get(manifests[-1]))["job"])
    except (ValueError, KeyError, TypeError):  # damaged: the trainer falls back to the checkpoint before
        return ""


def is_finished(store: store_module.ObjectStore, run_id: str) -> bool:
    """Tell whether a run is published.

    Raises:
        StorageError: the store does not answer.
    """
    return store.exists(f"{names.run_prefix(run_id)}/{names.MANIFEST_KEY}")
