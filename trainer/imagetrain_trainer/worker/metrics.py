"""The worker's Prometheus metrics, made from the newest progress report at each scrape (docs/metrics.md lists them)."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import prometheus_client
from prometheus_client import core, registry

from imagetrain_api import progress
from imagetrain_trainer.worker import goodput


class WorkerCollector(registry.Collector):
    """Turns one `Progress` into metric families labelled with the job's namespace and name."""

    def __init__(self, namespace: str, job: str, read: Callable[[], progress.Progress]) -> None:
        self._labels = {"namespace": namespace, "job": job}
        self._read = read
        self._ledger = goodput.GoodputLedger(time.monotonic())
        self._lock = threading.Lock()  # scrapes may meet

    def collect(self) -> Iterator[core.Metric]:
        """Yield every family; a figure that is not known yet is left out."""
        report = self._read()
        yield self._counter(
            "images", "Images trained on by the group since this worker's process started.", report.images
        )
        yield self._counter(
            "input_stall_seconds", "Time this worker's steps waited for input.", report.input_stall_seconds
        )
        for name, documentation, value in (
            ("storage_requests", "Requests for training data that this worker sent.", report.storage.requests),
            ("storage_hedges", "Requests sent a second time, for the first was late.", report.storage.hedges),
            ("storage_retries", "Requests sent again after a failure.", report.storage.retries),
            ("storage_throttled", "Answers of the storage that asked for fewer requests.", report.storage.throttled),
            ("storage_read_bytes", "Training data read from the storage.", report.storage.read_bytes),
            ("data_cache_hits", "Pieces of training data found in the disk cache.", report.storage.cache_hits),
            ("data_cache_misses", "Pieces that the disk cache did not have.", report.storage.cache_misses),
            ("data_cache_hit_bytes", "Training data read from the disk cache.", report.storage.cache_hit_bytes),
        ):
            yield self._counter(name, documentation, value)
        yield self._counter("checkpoint_seconds", "Time spent in saving checkpoints.", report.checkpoint_seconds)
        yield self._counter("checkpoints", "Checkpoints saved.", report.checkpoint_count)
        yield self._step_seconds(report)
        yield from self._gauges(report)
        yield self._counters_by("phase_seconds", "Wall time of this worker by phase.", "phase", report.seconds_by_phase)
        if report.rank == 0 and report.updated_at:
            yield from self._over_all_processes(report)

    def _over_all_processes(self, report: progress.Progress) -> Iterator[core.Metric]:
        """Yield what the chief alone can tell, for it is told of the recoveries."""
        with self._lock:
            spent = self._ledger.observe(report, now=time.monotonic(), unix=time.time())
            restarts = dict(self._ledger.restarts)
        yield self._counters_by("goodput_seconds", "Where the time since the worker's start went.", "state", spent)
        yield self._counters_by("restarts", "Recoveries in place.", "reason", restarts)

    def _counter(self, name: str, documentation: str, value: float) -> core.Metric:
        family = core.CounterMetricFamily(f"imagetrain_{name}", documentation, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family

    def _gauges(self, report: progress.Progress) -> Iterator[core.Metric]:
        for name, documentation, value in (
            ("images_per_second", "Training throughput of the group, recent.", report.images_per_second),
            ("epoch", "Epochs finished.", report.epoch),
            ("step", "Global steps finished.", report.step),
            ("steps", "Global steps of the run.", report.total_steps),
            ("generation", "Starts of the training process.", report.generation),
            ("workers", "Workers that the run's group trains with now.", report.workers or None),
            ("loss", "Mean training loss of the epoch so far.", report.loss),
            ("accuracy", "Training top-1 accuracy of the epoch so far.", report.accuracy),
            ("validation_loss", "Loss of the newest validation.", report.validation_loss),
            ("validation_accuracy", "Top-1 accuracy of the newest validation.", report.validation_accuracy),
            ("learning_rate", "Learning rate of the newest step.", report.learning_rate),
            ("eta_seconds", "Estimated seconds to the end of training.", report.eta_seconds),
            ("report_timestamp_seconds", "Unix time of the newest report.", report.updated_at or None),
        ):
            if value is not None:
                family = core.GaugeMetricFamily(f"imagetrain_{name}", documentation, labels=list(self._labels))
                family.add_metric(list(self._labels.values()), value)
                yield family

    def _step_seconds(self, report: progress.Progress) -> core.Metric:
        family = core.HistogramMetricFamily(
            "imagetrain_step_seconds", "Duration of training steps.", labels=list(self._labels)
        )
        bounds = [*(str(bound) for bound in progress.STEP_BUCKETS_SECONDS), "+Inf"]
        counts = report.step_seconds_buckets or (0,) * len(bounds)
        cumulative, total = [], 0
        for bound, count in zip(bounds, counts, strict=True):
            total += count
            cumulative.append((bound, total))
        family.add_metric(list(self._labels.values()), cumulative, report.step_seconds_sum)
        return family

    def _counters_by(self, name: str, documentation: str, label: str, values: Mapping[str, float]) -> core.Metric:
        labels = [*self._labels, label]
        family = core.CounterMetricFamily(f"imagetrain_{name}", documentation, labels=labels)
        for key, value in sorted(values.items()):
            family.add_metric([*self._labels.values(), key], value)
        return family


def build_registry(
    namespace: str, job: str, read: Callable[[], progress.Progress]
) -> prometheus_client.CollectorRegistry:
    """Return a registry with the worker's metrics and the supervisor process's own."""
    collectors = prometheus_client.CollectorRegistry(auto_describe=False)
    collectors.register(WorkerCollector(namespace, job, read))
    prometheus_client.ProcessCollector(registry=collectors)
    return collectors
