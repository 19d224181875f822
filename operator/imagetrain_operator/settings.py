"""Settings of the operator process, validated once."""

import dataclasses


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
    reconcilers: int = 16
    audit_interval_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.lease_duration_seconds < 3:
            raise ValueError(f"lease duration must be at least 3 s, got {self.lease_duration_seconds!r}.")
        if self.progress_interval_seconds < 1:
            raise ValueError(f"progress interval must be at least 1 s, got {self.progress_interval_seconds!r}.")
        if len(set(self.namespaces)) < len(self.namespaces):
            raise ValueError(f"namespaces must not be named twice, got {self.namespaces!r}.")
