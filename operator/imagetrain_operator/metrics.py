"""The operator's own metrics, all prefixed `imagetrain_operator_`; docs/metrics.md lists them."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator

import prometheus_client
from prometheus_client import core, registry

from imagetrain_operator import observed

_RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FIRST_STEP_BUCKETS = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0)


class OperatorMetrics:
    """Metrics of one operator process.

    Args:
        jobs: returns the known jobs; they are counted at each scrape.
        queue_depth: returns how many jobs wait for a reconciliation.
    """

    def __init__(self, jobs: Callable[[], Iterable[observed.TrainingJob]], queue_depth: Callable[[], int]) -> None:
        self.registry = _Registry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self.reconcile_seconds = prometheus_client.Histogram(
            "imagetrain_operator_reconcile_seconds",
            "Duration of reconciliations by result.",
            ["result"],
            buckets=_RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self.api_requests = prometheus_client.Counter(
            "imagetrain_operator_api_requests_total",
            "Requests to the API server by verb and HTTP status (0: no answer).",
            ["verb", "code"],
            registry=self.registry,
        )
        self.watch_events = prometheus_client.Counter(
            "imagetrain_operator_watch_events_total",
            "Watch events by kind of object.",
            ["kind"],
            registry=self.registry,
        )
        self.attempts_ended = prometheus_client.Counter(
            "imagetrain_operator_attempts_ended_total",
            "Attempts that ended without success, by reason.",
            ["namespace", "reason"],
            registry=self.registry,
        )
        self.restarts = prometheus_client.Counter(
            "imagetrain_operator_restarts_total",
            "Attempts that followed one that failed or was lost, by the reason why that one ended.",
            ["namespace", "reason"],
            registry=self.registry,
        )
        self.first_step_seconds = prometheus_client.Histogram(
            "imagetrain_operator_time_to_first_step_seconds",
            "Time from the start of an attempt to the first report of a step, in steps of the progress interval.",
            buckets=_FIRST_STEP_BUCKETS,
            registry=self.registry,
        )
        self.is_leader = prometheus_client.Gauge(
            "imagetrain_operator_leader", "1 while this process holds the lease.", registry=self.registry
        )
        depth = prometheus_client.Gauge(
            "imagetrain_operator_queue_depth", "Jobs that wait for a reconciliation.", registry=self.registry
        )
        depth.set_function(queue_depth)
        self.registry.register(_JobsCollector(jobs))

    def count_request(self, verb: str, code: str) -> None:
        """Count one request to the API server."""
        self.api_requests.labels(verb, code).inc()

    def count_end(self, namespace: str, reason: str, *, is_followed: bool) -> None:
        """Count an attempt that ended without success, and the restart where another attempt follows.

        To go on after a suspension, whose attempt ended by the user's wish, is no restart.
        """
        self.attempts_ended.labels(namespace, reason).inc()
        if is_followed and reason != "Suspended":
            self.restarts.labels(namespace, reason).inc()

    def render(self) -> bytes:
        """Return all metrics as Prometheus text."""
        return prometheus_client.generate_latest(self.registry)


class _Registry(registry.CollectorRegistry):
    """A registry without the `_created` series, which cost a series for each real one and which no query of ours needs.

    `prometheus_client.disable_created_metrics` would do it for everybody in the process.
    """

    def collect(self) -> Iterator[core.Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class _JobsCollector(registry.Collector):
    """Counts jobs by namespace, phase and reason when it is asked."""

    def __init__(self, jobs: Callable[[], Iterable[observed.TrainingJob]]) -> None:
        self._jobs = jobs

    def describe(self) -> Iterator[core.Metric]:
        yield self._family()

    def collect(self) -> Iterator[core.Metric]:
        tally = Tally((job.key.namespace, job.status.phase, job.status.reason) for job in self._jobs())
        family = self._family()
        for labels, count in sorted(tally.items()):
            family.add_metric(labels, count)
        yield family

    @staticmethod
    def _family() -> core.GaugeMetricFamily:
        return core.GaugeMetricFamily(
            "imagetrain_operator_jobs", "Jobs by phase and reason.", labels=["namespace", "phase", "reason"]
        )
