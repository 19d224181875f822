"""The `ImageTrainingJob` manifest: every setting of its spec, with rules and defaults."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import ClassVar

from imagetrain_api import names, uris
from imagetrain_api.data_settings import DataSettings
from imagetrain_api.pod_settings import GPUS_CEL, WorkerSettings
from imagetrain_api.rules import FieldError
from imagetrain_api.schema import Document, Rule, TransitionRule, ValidationError, decode, setting
from imagetrain_api.training_settings import ModelSettings, TrainingSettings

FORMATS = ("saved_model", "tflite_float32", "tflite_dynamic", "tflite_float16", "tflite_int8")

MAX_SECONDS = 2**31 - 1  # Kubernetes keeps such times in 32 bits

# Keys of `metadata` that the API server writes; a manifest read back from the cluster has them.
_SERVER_METADATA = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "selfLink",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    }
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Document):
    """`metadata`: the part of it that users write."""

    name: str = setting(
        doc="Name of the job; its pods' host names are NAME-ATTEMPT-RANK.",
        # It names a Service too, and Kubernetes wants a letter at the start of that (RFC 1035).
        pattern=r"[a-z]([-a-z0-9]*[a-z0-9])?",
        pattern_rule="a DNS label of lower-case letters, digits and hyphens that starts with a letter (RFC 1035)",
        # Kubernetes, "Indexed Job": a pod's hostname is a label of 63 characters: 52 + "-10000" + "-255".
        max_length=52,
    )
    namespace: str = setting(
        default="default",
        doc="Kubernetes namespace.",
        pattern=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        pattern_rule="a DNS label of lower-case letters, digits and hyphens (RFC 1123)",
        max_length=63,
    )
    labels: Mapping[str, str] = setting(
        default_factory=dict,
        doc="Labels of the job.",
        pattern=names.LABEL_VALUE,
        pattern_rule="the value of a label",
        key_pattern=names.LABEL_KEY,
        key_rule="names of labels, such as example.com/team",
    )
    annotations: Mapping[str, str] = setting(
        default_factory=dict,
        doc="Annotations of the job.",
        key_pattern=f"(?i:{names.LABEL_KEY})",  # Kubernetes looks at their names in lower case
        key_rule="names of annotations, such as example.com/team",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings(Document):
    """`spec.s3`: how to reach the S3 API; what is left out comes from the environment, as AWS tools read it."""

    endpoint_url: str | None = setting(
        default=None,
        doc="Address of an S3 server that is not Amazon's.",
        pattern=r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?",
        pattern_rule="an http:// or https:// address of a host and port",
        max_length=512,
    )
    region: str | None = setting(
        default=None,
        doc="Region of the buckets.",
        pattern=r"[a-z0-9-]+",
        pattern_rule="a region such as eu-west-1",
        max_length=63,
    )
    credentials_secret: str | None = setting(
        default=None,
        doc="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the job's namespace; workers alone see it.",
        pattern=names.OBJECT_NAME,
        pattern_rule="the name of a Secret",
        max_length=253,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings(Document):
    """`spec.checkpoint`."""

    every_seconds: int = setting(default=60, doc="Seconds between two checkpoints.", minimum=1, maximum=604800)
    every_steps: int | None = setting(
        default=None,
        doc="Steps between two checkpoints, in place of everySeconds and auto.",
        minimum=1,
        maximum=1000000000,
    )
    auto: bool = setting(
        default=False,
        doc="Choose the seconds between two checkpoints from what a save costs and how often the group fails, in place "
        "of everySeconds.",
    )
    keep: int = setting(default=3, doc="Newest checkpoints that are kept, beside the best.", minimum=1, maximum=1000)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings(Document):
    """`spec.output.gate`: what a quantized model must reach to be published."""

    max_accuracy_drop: float = setting(
        default=0.01,
        doc="Most top-1 accuracy on the test split that a variant may lose against float32.",
        minimum=0,
        maximum=1,
    )
    min_speedup: float | None = setting(
        default=None,
        doc="Least speed against TFLite float32 on the publishing machine; absent: not asked.",
        exclusive_minimum=0,
        maximum=100,
    )
    force: bool = setting(default=False, doc="Publish refused variants all the same.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Int8Settings(Document):
    """`spec.output.int8`: the full-integer variant."""

    input_type: str = setting(default="uint8", doc="Type of its input and output.", choices=("uint8", "int8"))
    calibration_samples: int = setting(
        default=200,
        doc="Training images, spread evenly over the classes, that set its ranges.",
        minimum=10,
        maximum=100000,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings(Document):
    """`spec.output`: what is published, and where."""

    uri: str = setting(doc="Prefix for runs, checkpoints and models.", syntax=uris.SYNTAX, max_bytes=512)
    formats: tuple[str, ...] = setting(
        default=FORMATS,
        doc="Model formats to publish.",
        choices=FORMATS,
        min_items=1,
        max_items=len(FORMATS),
        unique=True,
    )
    gate: GateSettings = setting(default_factory=GateSettings, doc="What a variant must reach.")
    int8: Int8Settings = setting(default_factory=Int8Settings, doc="Details of tflite_int8.")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySettings(Document):
    """`spec.recovery`."""

    max_restarts: int = setting(default=10, doc="Restarts of the group before the job fails.", minimum=0, maximum=10000)
    step_timeout_seconds: int = setting(
        default=60, doc="Longest silence between two steps before the group counts as hung.", minimum=5, maximum=86400
    )
    start_timeout_seconds: int = setting(
        default=600,
        doc="Longest time from a worker's start to its first step; a later start may take 5 times the longest so far.",
        minimum=10,
        maximum=86400,
    )
    member_timeout_seconds: int = setting(
        default=60,
        doc="Longest absence of a worker while the others wait for it in place; then the whole group is replaced.",
        minimum=5,
        maximum=86400,
    )
    min_workers: int | None = setting(
        default=None,
        doc="Fewest workers that go on without the others, rank 0 among them; absent: all are needed.",
        minimum=1,
        maximum=256,
    )
    elastic_timeout_seconds: int = setting(
        default=60,
        doc="How long a group of at least minWorkers waits for the others before it goes on without them.",
        minimum=1,
        maximum=86400,
    )
    skip_poison_batches: bool = setting(
        default=False,
        doc="Leave out a batch at which the group crashed twice, in place of failing the job.",
    )
    force_delete_after_seconds: int | None = setting(
        default=None,
        doc="How long a node may be unreachable before its pods of this job are deleted by force, which frees their "
        "place but does not end what may still run there; absent: never (Kubernetes only).",
        minimum=0,
        maximum=86400,
    )


def _fixed(field: str) -> TransitionRule:
    return TransitionRule(
        field,
        "stay as it is, for the run's checkpoints belong to it; create a job with another name instead",
        lambda old, new: operator.attrgetter(field)(old) == operator.attrgetter(field)(new),
        "self == oldSelf",
        is_of_field=True,
    )


def _fixed_while_running(field: str) -> TransitionRule:
    return TransitionRule(
        field,
        "stay as it is while the job runs; set suspend to true first",
        lambda old, new: old.suspend or new.suspend or getattr(old, field) == getattr(new, field),
        f"self.{field} == oldSelf.{field} || oldSelf.suspend || self.suspend",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec(Document):
    """`spec`."""

    workers: int = setting(default=1, doc="Size of the worker group.", minimum=1, maximum=256)
    data: DataSettings = setting(doc="The packed data set.")
    model: ModelSettings = setting(doc="The network.")
    training: TrainingSettings = setting(default_factory=TrainingSettings, doc="How it is trained.")
    checkpoint: CheckpointSettings = setting(default_factory=CheckpointSettings, doc="When state is saved.")
    output: OutputSettings = setting(doc="What is published.")
    recovery: RecoverySettings = setting(default_factory=RecoverySettings, doc="What happens after a failure.")
    s3: S3Settings = setting(default_factory=S3Settings, doc="How to reach the S3 API.")
    worker: WorkerSettings = setting(default_factory=WorkerSettings, doc="The pod of one worker.")
    suspend: bool = setting(
        default=False, doc="Save a checkpoint and give the pods back; false again goes on from there (Kubernetes only)."
    )
    active_deadline_seconds: int | None = setting(
        default=None,
        doc="Longest time from the start, or from the newest resumption, to the end (Kubernetes only).",
        minimum=1,
        maximum=MAX_SECONDS,
    )
    ready_deadline_seconds: int | None = setting(
        default=None,
        doc="Longest time from a group's creation until all its workers are ready; absent: no limit (Kubernetes only).",
        minimum=1,
        maximum=MAX_SECONDS,
    )
    ttl_seconds_after_finished: int | None = setting(
        default=None,
        doc="Time from the job's end to its deletion; absent: it stays, as models always do (Kubernetes only).",
        minimum=0,
        maximum=MAX_SECONDS,
    )

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "training.global_batch_size",
            "be at least workers x GPUs of a worker, so that every replica has a sample",
            lambda s: s.training.global_batch_size >= s.workers * max(1, s.worker.gpus),
            f"self.training.globalBatchSize >= self.workers * {GPUS_CEL}",
        ),
        Rule(
            "recovery.min_workers",
            "be at most workers",
            lambda s: s.recovery.min_workers is None or s.recovery.min_workers <= s.workers,
            "!has(self.recovery.minWorkers) || self.recovery.minWorkers <= self.workers",
        ),
        Rule(
            "output.uri",
            "lie outside data.uri, so that runs never mix with the data set",
            lambda s: not uris.parse_storage_uri(s.output.uri).is_inside(uris.parse_storage_uri(s.data.uri)),
            "!(self.output.uri.endsWith('/') ? self.output.uri : self.output.uri + '/')"
            ".startsWith(self.data.uri.endsWith('/') ? self.data.uri : self.data.uri + '/')",
        ),
    )

    TRANSITIONS: ClassVar[tuple[TransitionRule, ...]] = (
        *(_fixed(field) for field in ("data.uri", "data.sampling", "model", "training", "output")),
        *(_fixed_while_running(field) for field in ("workers", "checkpoint", "s3", "worker")),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageTrainingJob(Document):
    """The whole manifest."""

    api_version: str = setting(doc="API group and version.", choices=(names.API_VERSION,))
    kind: str = setting(doc="Kind.", choices=(names.KIND,))
    metadata: Metadata = setting(doc="Name and namespace.")
    spec: JobSpec = setting(doc="What to train.")


def decode_job(manifest: object) -> ImageTrainingJob:
    """Make a job from a parsed manifest; `status` and what the API server adds to `metadata` are passed over.

    Raises:
        ValidationError: with every broken rule.
    """
    if not isinstance(manifest, Mapping):
        raise ValidationError(
            [FieldError("manifest", "be an object with apiVersion, kind, metadata and spec", manifest)]
        )
    document = {key: value for key, value in manifest.items() if key != "status"}
    if isinstance(metadata := document.get("metadata"), Mapping):
        document["metadata"] = {key: value for key, value in metadata.items() if key not in _SERVER_METADATA}
    return decode(ImageTrainingJob, document)
