"""Settings of `spec.worker`: the pod of one worker. Values that Kubernetes defines are passed on as they are."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from imagetrain_api import names, quantities
from imagetrain_api.schema import Document, Rule, setting

GPU_RESOURCE = "nvidia.com/gpu"

_MAX_OBJECT_NAME = 253
_GPUS = "[0-9]{1,3}"
_MAX_ITEMS = 64  # of each list below; it bounds the API server's cost of checking a job


# What `max(1, worker.gpus)` is in the CEL of `spec`.
GPUS_CEL = (
    f"('{GPU_RESOURCE}' in self.worker.resources.limits && "
    f"string(self.worker.resources.limits['{GPU_RESOURCE}']).matches('^0*[1-9][0-9]*$') "
    f"? int(string(self.worker.resources.limits['{GPU_RESOURCE}'])) : 1)"
)


def _quantities(doc: str) -> Any:  # noqa: ANN401 - a field specifier, as `setting` is
    return setting(
        default_factory=dict,
        doc=doc,
        pattern=quantities.PATTERN,
        pattern_rule=quantities.RULE,
        max_length=32,
        max_properties=_MAX_ITEMS,
        is_int_or_string=True,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resources(Document):
    """`spec.worker.resources`, as in a container."""

    limits: Mapping[str, str] = _quantities("Limits.")
    requests: Mapping[str, str] = _quantities("Requests.")

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "limits",
            f"give a whole number of {GPU_RESOURCE}, at most 999 and without a suffix",
            lambda r: re.fullmatch(_GPUS, r.limits.get(GPU_RESOURCE, "0")) is not None,
            f"!('{GPU_RESOURCE}' in self.limits) || string(self.limits['{GPU_RESOURCE}']).matches('^{_GPUS}$')",
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LocalObjectReference(Document):
    """An object of the job's namespace."""

    name: str = setting(
        doc="Its name.", pattern=names.OBJECT_NAME, pattern_rule="the name of an object", max_length=_MAX_OBJECT_NAME
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings(Document):
    """`spec.worker`: the pod of one worker. Only `resources.limits` and `allowCpu` mean anything outside Kubernetes."""

    image: str | None = setting(
        default=None,
        doc="Container image; absent: the operator's default, the trainer of its own version.",
        pattern=r"[A-Za-z0-9][-A-Za-z0-9._/:@]*",
        pattern_rule="a container image such as registry.example.com/team/trainer:1.0",
        max_length=512,
    )
    image_pull_policy: str | None = setting(
        default=None, doc="When the image is pulled.", choices=("Always", "IfNotPresent", "Never")
    )
    image_pull_secrets: tuple[LocalObjectReference, ...] = setting(
        default=(), doc="Secrets for the image's registry.", max_items=_MAX_ITEMS
    )
    resources: Resources = setting(default_factory=Resources, doc="Resources of the container.")
    allow_cpu: bool = setting(default=False, doc="Train on the CPU where TensorFlow sees fewer GPUs than requested.")
    env: tuple[Mapping[str, Any], ...] = setting(
        default=(), doc="Further environment variables, as in a container.", max_items=_MAX_ITEMS
    )
    volumes: tuple[Mapping[str, Any], ...] = setting(
        default=(), doc="Further volumes, as in a pod.", max_items=_MAX_ITEMS
    )
    volume_mounts: tuple[Mapping[str, Any], ...] = setting(
        default=(), doc="Where they are mounted, as in a container.", max_items=_MAX_ITEMS
    )
    service_account_name: str | None = setting(
        default=None,
        doc="ServiceAccount of the pods, for workload identity; it gets no Kubernetes token.",
        pattern=names.OBJECT_NAME,
        pattern_rule="the name of a ServiceAccount",
        max_length=_MAX_OBJECT_NAME,
    )
    priority_class_name: str | None = setting(
        default=None,
        doc="PriorityClass of the pods.",
        pattern=names.OBJECT_NAME,
        pattern_rule="the name of a PriorityClass",
        max_length=_MAX_OBJECT_NAME,
    )
    node_selector: Mapping[str, str] = setting(
        default_factory=dict,
        doc="Labels of suitable nodes.",
        pattern=names.LABEL_VALUE,
        pattern_rule="the value of a label",
        max_length=63,
        max_properties=_MAX_ITEMS,
    )
    tolerations: tuple[Mapping[str, Any], ...] = setting(
        default=(), doc="Taints that the pods tolerate.", max_items=_MAX_ITEMS
    )
    affinity: Mapping[str, Any] = setting(default_factory=dict, doc="Affinity, as in a pod.")
    topology_spread_constraints: tuple[Mapping[str, Any], ...] = setting(
        default=(), doc="How the workers spread over the nodes, as in a pod.", max_items=_MAX_ITEMS
    )
    termination_grace_period_seconds: int = setting(
        default=120, doc="Time for the last checkpoint when the pods must go.", minimum=1, maximum=86400
    )
    pod_template: Mapping[str, Any] = setting(
        default_factory=dict, doc="Strategic merge patch of the pod template; it has the last word."
    )

    @property
    def gpus(self) -> int:
        """GPUs of one worker."""
        return int(self.resources.limits.get(GPU_RESOURCE, "0"))
