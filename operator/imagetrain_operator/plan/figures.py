"""From a worker's report and outcome to the figures of a status."""

from imagetrain_api import job, progress, uris
from imagetrain_api.status import ArtifactStatus, OutputStatus, ProgressStatus
from imagetrain_operator.plan import conditions


def build_progress(report: progress.Progress) -> ProgressStatus:
    """Return the chief's report as the status shows it, rounded to what a reader can use."""
    accuracy = report.validation_accuracy if report.validation_accuracy is not None else report.accuracy
    return ProgressStatus(
        epoch=report.epoch,
        total_epochs=report.total_epochs,
        epochs=f"{report.epoch}/{report.total_epochs}" if report.total_epochs else "",
        step=report.step,
        total_steps=report.total_steps,
        steps=f"{report.step}/{report.total_steps}" if report.total_steps else "",
        workers=report.workers or None,
        images_per_second=round(report.images_per_second, 1) or None,  # before the first step it is not known
        eta_seconds=None if report.eta_seconds is None else round(report.eta_seconds),
        eta=None if report.eta_seconds is None else conditions.format_duration(report.eta_seconds),
        loss=_rounded(report.loss),
        accuracy=_rounded(accuracy),
        checkpoint_step=report.checkpoint_step,
    )


def build_final_progress(known: ProgressStatus | None, outcome: progress.WorkerOutcome | None) -> ProgressStatus | None:
    """Return the last progress: all epochs and steps done, and the accuracy of the test split."""
    summary = dict(outcome.summary) if outcome else {}
    epochs, steps = _whole(summary.get("epochs")), _whole(summary.get("steps"))
    if epochs is None or steps is None:
        return known
    return ProgressStatus(
        epoch=epochs,
        total_epochs=epochs,
        epochs=f"{epochs}/{epochs}",
        step=steps,
        total_steps=steps,
        steps=f"{steps}/{steps}",
        step_time=known.step_time if known and known.step == steps else None,
        workers=known.workers if known else None,
        images_per_second=_rounded(summary.get("images_per_second"), 1),
        loss=_rounded(summary.get("test_loss")),
        accuracy=_rounded(summary.get("test_accuracy")),
        checkpoint_step=known.checkpoint_step if known else None,
    )


def build_outputs(outcome: progress.WorkerOutcome | None) -> OutputStatus | None:
    """Return what a finished chief published."""
    if outcome is None or outcome.manifest_uri is None:
        return None
    folder = outcome.manifest_uri.rpartition("/")[0]
    artifacts = outcome.summary.get("artifacts")
    described = [_build_artifact(item, folder) for item in artifacts] if isinstance(artifacts, list) else []
    return OutputStatus(
        manifest_uri=outcome.manifest_uri, artifacts=tuple(artifact for artifact in described if artifact is not None)
    )


def _build_artifact(item: object, folder: str) -> ArtifactStatus | None:
    if not isinstance(item, dict) or item.get("format") not in job.FORMATS:
        return None
    path, digest = item.get("path"), item.get("sha256")
    return ArtifactStatus(
        format=item["format"],
        uri=f"{folder}/{path}" if isinstance(path, str) else None,
        size_bytes=_whole(item.get("sizeBytes")) or 0,
        sha256=digest if isinstance(digest, str) else None,
        accuracy=_rounded(item.get("accuracy")),
        latency_milliseconds=_rounded(item.get("latencyMilliseconds")),
    )


def describe_published(outputs: OutputStatus | None, accuracy: float | None) -> str:
    """Return one sentence on the end of a good run."""
    if outputs is None:
        return "All workers have completed."
    refused = [artifact.format for artifact in outputs.artifacts if artifact.uri is None]
    published = len(outputs.artifacts) - len(refused)
    figure = "" if accuracy is None else f", test accuracy {accuracy:.4f}"
    held_back = f" The gate refused {', '.join(refused)}." if refused else ""
    formats = "1 model format is" if published == 1 else f"{published} model formats are"
    return f"{formats} published at {folder_of(outputs)}{figure}.{held_back}"


def folder_of(outputs: OutputStatus) -> str:
    """Return the URI of the published run's folder."""
    return str(uris.parse_storage_uri(outputs.manifest_uri.rpartition("/")[0])) + "/"


def _rounded(value: object, digits: int = 4) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(float(value), digits)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
