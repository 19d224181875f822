"""Settings of the operator process, validated once."""

import dataclasses
import re

# Kubernetes, "Labels and selectors": a taint's key is a qualified name.
_TAINT_KEY = re.compile(r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """What the command line says.

    Attributes:
        namespaces: namespaces to serve; empty: all of them.
        trainer_image: image of workers whose job names none.
        image_pull_policy: pull policy of workers whose job names none; "": Kubernetes' own default.
        listen_host, listen_port: where /metrics, /healthz and /readyz are served.
        lease_namespace, lease_name: of the Lease that one operator of several holds.
        lease_duration_seconds: how long a silent leader keeps it.
        node_notice_taints: keys of taints that say that a node is about to be taken away; empty: nodes are not watched.
        identity: this process, different from every other.
        progress_interval_seconds: time between two questions to a chief, and least time between two status writes of
            figures alone.
        reconcilers: reconciliations that may wait for the API server at the same time.
        audit_interval_seconds: time between two comparisons of the known jobs with a list of all.
    """

    namespaces: tuple[str, ...]
    trainer_image: str
    image_pull_policy: str
    listen_host: str
    listen_port: int
    lease_namespace: str
    lease_name: str
    lease_duration_seconds: float
    identity: str
    progress_interval_seconds: float
    node_notice_taints: tuple[str, ...] = ()
    reconcilers: int = 16
    audit_interval_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.lease_duration_seconds < 3:
            raise ValueError(f"lease duration must be at least 3 s, got {self.lease_duration_seconds!r}.")
        if self.progress_interval_seconds < 1:
            raise ValueError(f"progress interval must be at least 1 s, got {self.progress_interval_seconds!r}.")
        if len(set(self.namespaces)) < len(self.namespaces):
            raise ValueError(f"namespaces must not be named twice, got {self.namespaces!r}.")
        for key in self.node_notice_taints:
            if not _TAINT_KEY.fullmatch(key):
                raise ValueError(
                    f"node notice taint must be the key of a taint, without value and effect, got {key!r}."
                )
