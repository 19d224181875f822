"""The worker config document: all that a worker must know, the same for every rank (a ConfigMap, or a local file)."""

import dataclasses
import json
from typing import Any, ClassVar

from imagetrain_api import names
from imagetrain_api.job import ImageTrainingJob
from imagetrain_api.rules import FieldError
from imagetrain_api.schema import Document, Rule, ValidationError, decode, encode, setting

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEndpoint(Document):
    """Where one rank is reached by its peers and by whoever watches it."""

    host: str = setting(doc="Host name or address.", pattern=r"[A-Za-z0-9.:-]+", pattern_rule="a host name or address")
    collective_port: int = setting(doc="TensorFlow's port.", minimum=1, maximum=65535)
    status_port: int = setting(doc="Port of /healthz, /metrics and /progress.", minimum=1, maximum=65535)
    rendezvous_port: int = setting(
        default=names.RENDEZVOUS_PORT,
        doc="Port where the supervisors meet; that of rank 0 counts.",
        minimum=1,
        maximum=65535,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig(Document):
    """The document."""

    schema_version: int = setting(default=SCHEMA_VERSION, doc="Version of this document.", minimum=1)
    run_id: str = setting(
        doc="Identity of the run, the same over all its restarts.",
        pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        pattern_rule="lower-case letters, digits and hyphens",
        max_length=63,
    )
    job: ImageTrainingJob = setting(doc="The job.")
    endpoints: tuple[WorkerEndpoint, ...] = setting(doc="One endpoint a rank, in order.", min_items=1)

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule("schema_version", f"be {SCHEMA_VERSION}", lambda c: c.schema_version == SCHEMA_VERSION, ""),
        Rule("endpoints", "hold one endpoint a worker", lambda c: len(c.endpoints) == c.job.spec.workers, ""),
    )


def dump_worker_config(config: WorkerConfig) -> str:
    """Return the document as JSON text with sorted keys."""
    return json.dumps(encode(config), indent=1, sort_keys=True) + "\n"


def load_worker_config(text: str) -> WorkerConfig:
    """Parse the document.

    Raises:
        ValidationError: the text is not JSON or breaks a rule.
    """
    try:
        document: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValidationError([FieldError("worker config", f"be JSON ({error})", text[:40])]) from error
    return decode(WorkerConfig, document)
