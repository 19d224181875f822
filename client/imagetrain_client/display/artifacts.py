"""What a run published, as a table for people and as a document for programs."""

from typing import Any

from rich import box, console, table

from imagetrain_api import model_manifest, names
from imagetrain_client.display import wording
from imagetrain_trainer.publish import catalog

PLAIN_WIDTH = 160  # columns of a table that is not written to a terminal


def print_variants(target: console.Console, loaded: catalog.LoadedManifest) -> None:
    """Print one row a format, the reasons of refusals below, and where the models lie."""
    manifest = loaded.manifest
    rows = table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
    rows.add_column("format")
    for heading in ("size", "accuracy", "drop", "agreement", "median ms", "p95 ms"):
        rows.add_column(heading, justify="right")
    rows.add_column("status")
    rows.add_column("file")
    for variant in manifest.variants:
        rows.add_row(
            variant.format,
            wording.size(variant.size_bytes),
            wording.percent(variant.accuracy),
            f"{100 * variant.accuracy_drop:+.2f}",
            wording.percent(variant.agreement),
            f"{variant.latency_median_ms:.3f}",
            f"{variant.latency_p95_ms:.3f}",
            status(variant),
            variant.path.rpartition("/")[2] if variant.is_published else "",
        )
    target.print(rows)
    for variant in manifest.variants:
        if variant.refusal:
            verb = "published all the same (gate.force)" if variant.is_forced else "refused"
            target.print(f"{variant.format} {verb}: {variant.refusal}", highlight=False, markup=False, soft_wrap=True)


def status(variant: model_manifest.Variant) -> str:
    """Return `published`, `forced` or `refused`."""
    if not variant.is_published:
        return "refused"
    return "forced" if variant.is_forced else "published"


def folder_uri(loaded: catalog.LoadedManifest) -> str:
    """Return the URI of the folder that holds the published models."""
    run = loaded.uri.removesuffix(names.MANIFEST_KEY)
    folders = {variant.path.rpartition("/")[0] for variant in loaded.manifest.variants if variant.is_published}
    return f"{run}{folders.pop()}/" if len(folders) == 1 else run


def artifact_uri(loaded: catalog.LoadedManifest, path: str) -> str:
    """Return the full URI of an artifact's path."""
    return loaded.uri.removesuffix(names.MANIFEST_KEY) + path


def test_accuracy(manifest: model_manifest.ModelManifest) -> str:
    """Return the float model's accuracy with the number of test samples."""
    accuracy, samples = manifest.test.get("accuracy"), manifest.test.get("samples")
    return f"{wording.percent(accuracy)} of {samples} test images"


def as_document(loaded: catalog.LoadedManifest) -> dict[str, Any]:
    """Return what was published as JSON values: the test figures and each variant with its URI."""
    manifest = loaded.manifest
    return {
        "manifestUri": loaded.uri,
        "testAccuracy": manifest.test.get("accuracy"),
        "testSamples": manifest.test.get("samples"),
        "variants": [
            {
                "format": variant.format,
                "status": status(variant),
                "refusal": variant.refusal,
                "sizeBytes": variant.size_bytes,
                "accuracy": variant.accuracy,
                "accuracyDrop": variant.accuracy_drop,
                "latencyMedianMs": variant.latency_median_ms,
                "latencyP95Ms": variant.latency_p95_ms,
                "uri": artifact_uri(loaded, variant.path) if variant.is_published else None,
            }
            for variant in manifest.variants
        ],
    }
