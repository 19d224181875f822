"""`manifest.json` and `latest.json`: what a finished run published.

Readers trust nothing that a manifest does not name.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from imagetrain_api.schema import Document, setting

SCHEMA_VERSION = 1
_SHA256 = r"[0-9a-f]{64}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Document):
    """One published object."""

    path: str = setting(doc="Key relative to the manifest's folder.")
    size_bytes: int = setting(doc="Length.", minimum=0)
    sha256: str = setting(doc="SHA-256 of the bytes.", pattern=_SHA256, pattern_rule="64 hexadecimal digits")
    content_type: str = setting(default="application/octet-stream", doc="Media type.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Variant(Document):
    """One model format: measured on the whole test split, whether published or refused."""

    format: str = setting(doc="One of job.FORMATS.")
    path: str = setting(doc="Key of the model file (or SavedModel folder), relative to the manifest's folder.")
    is_published: bool = setting(doc="False: refused by the gate, and not uploaded.")
    is_forced: bool = setting(default=False, doc="Published by gate.force though refused.")
    refusal: str = setting(default="", doc="Why the gate refused it.")
    size_bytes: int = setting(doc="Size of the model.", minimum=0)
    accuracy: float = setting(doc="Top-1 on the test split.", minimum=0, maximum=1)
    accuracy_drop: float = setting(default=0.0, doc="Top-1 lost against the float model.", minimum=-1, maximum=1)
    agreement: float = setting(
        default=1.0, doc="Share of test samples with the float model's answer.", minimum=0, maximum=1
    )
    latency_median_ms: float = setting(doc="Median of single-image inference, one thread.", minimum=0)
    latency_p95_ms: float = setting(doc="95th percentile of the same.", minimum=0)
    input_type: str = setting(default="float32", doc="Type of the input tensor.")
    output_type: str = setting(default="float32", doc="Type of the output tensor.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest(Document):
    """The document `manifest.json`."""

    schema_version: int = setting(default=SCHEMA_VERSION, doc="Version of this document.", minimum=1)
    job: str = setting(doc="Name of the job.")
    namespace: str = setting(doc="Namespace of the job.")
    run_id: str = setting(doc="Identity of the run.")
    created_at: str = setting(doc="UTC time of publishing, ISO 8601.")
    imagetrain_version: str = setting(doc="Version of the product that made it.")
    architecture: str = setting(doc="Network.")
    input_shape: tuple[int, ...] = setting(doc="Height, width, channels.", min_items=3, max_items=3)
    classes: tuple[str, ...] = setting(doc="Class names in the order of the outputs.")
    dataset: Mapping[str, Any] = setting(
        doc="uri, digest, sample counts by split, and the version that `latest` stood for."
    )
    training: Mapping[str, Any] = setting(doc="Settings and final figures of the training.")
    test: Mapping[str, Any] = setting(doc="samples, accuracy, loss and confusion_matrix of the float model.")
    variants: tuple[Variant, ...] = setting(doc="Every requested format.")
    artifacts: tuple[Artifact, ...] = setting(doc="Every published object but this document.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LatestPointer(Document):
    """The document `latest.json`."""

    schema_version: int = setting(default=SCHEMA_VERSION, doc="Version of this document.", minimum=1)
    run_id: str = setting(doc="Newest published run.")
    manifest: str = setting(doc="Key of its manifest, relative to this document's folder.")
    sha256: str = setting(doc="SHA-256 of that manifest.", pattern=_SHA256, pattern_rule="64 hexadecimal digits")
