"""A real Prometheus finds the pods of a run through the Kubernetes API and shows what the trainer itself tells."""

import collections.abc
import json
import pathlib
import re
import statistics
import time
from typing import Any, NamedTuple

import pytest

import cluster_jobs
import operator_processes
import prometheus_processes
from imagetrain_cluster import cluster as cluster_module

WINDOW_SECONDS = 20.0
TOLERANCE = 0.02
POLL_SECONDS = 0.1


class Told(NamedTuple):
    """One answer of /progress, with the Unix times between which it was given."""

    asked: float
    answered: float
    figures: dict[str, Any]


@pytest.fixture
def prometheus(
    jobs: cluster_jobs.ClusterJobs, operator: operator_processes.OperatorProcess, tmp_path: pathlib.Path
) -> collections.abc.Iterator[prometheus_processes.Prometheus]:
    """Run a Prometheus for the namespace of `jobs` and for the operator."""
    started = prometheus_processes.Prometheus(jobs.cluster, tmp_path, jobs.namespace, f"127.0.0.1:{operator.port}")
    yield started
    started.close()


def poll_progress(cluster: cluster_module.Cluster, chief: str, seconds: float) -> list[Told]:
    """Return what a chief tells again and again while it trains."""
    answers: list[Told] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.time()
        figures = json.loads(operator_processes.fetch(cluster, chief, 8080, "/progress"))
        if figures["phase"] not in ("training", "evaluating", "checkpointing"):
            break
        answers.append(Told(asked, time.time(), figures))
        time.sleep(POLL_SECONDS)
    return answers


def images_before(answers: list[Told], moment: float) -> int:
    """Return the trainer's count of images in the newest answer that was there at a moment."""
    return max(int(told.figures["images"]) for told in answers if told.answered <= moment)


def images_after(answers: list[Told], moment: float) -> int:
    """Return its count in the oldest answer that was asked for after a moment."""
    return min(int(told.figures["images"]) for told in answers if told.asked >= moment)


@pytest.mark.timeout(300)  # a job that trains for 40 s and ends
def test_images_per_second_in_prometheus_are_the_trainers_own(
    jobs: cluster_jobs.ClusterJobs, prometheus: prometheus_processes.Prometheus
) -> None:
    training = {"epochs": 150, "globalBatchSize": 48, "optimizer": {"learningRate": 0.001}, "stepsPerExecution": 2}
    jobs.apply(jobs.build(training=training))
    chief = f'{{namespace="{jobs.namespace}",job="digits",rank="0"}}'
    jobs.wait_for_step("digits", 20)
    address = jobs.pods("digits")[0]["status"]["podIP"]
    answers = poll_progress(jobs.cluster, address, WINDOW_SECONDS)
    # A sample's time is the start of its scrape, to 2 ms; the scrape is over when its time limit is.
    first, last = answers[0].answered + 0.01, answers[-1].asked - prometheus_processes.SCRAPE_TIMEOUT_SECONDS
    samples = prometheus.samples(f"imagetrain_images_total{chief}", seconds=60)
    scraped = [(at, value) for at, value in samples if first <= at <= last]
    assert len(scraped) >= 8, f"{len(scraped)} scrapes in {last - first:.0f} s"  # too few: train for longer
    for at, value in scraped:
        after = images_after(answers, at + prometheus_processes.SCRAPE_TIMEOUT_SECONDS)
        assert images_before(answers, at - 0.01) <= value <= after

    # So the rate there is that of the trainer's own count between the same moments, but for the polls' distance.
    (begin, _), (end, _) = scraped[0], scraped[-1]
    window = f"{round((end - begin) * 1000) + 1}ms"  # both scrapes are in it
    own = (images_before(answers, end) - images_before(answers, begin)) / (end - begin)
    there = prometheus.value(f"rate(imagetrain_images_total{chief}[{window}])", at=end)
    assert there == pytest.approx(own, rel=TOLERANCE)

    gauge = prometheus.value(f"avg_over_time(imagetrain_images_per_second{chief}[{window}])", at=end)
    own_gauge = statistics.fmean(told.figures["imagesPerSecond"] for told in answers if begin <= told.answered <= end)
    assert gauge == pytest.approx(own_gauge, rel=TOLERANCE)

    status = jobs.wait_for_phase("digits", "Succeeded", seconds=150)
    figures = jobs.read_document(status["outputs"]["manifestUri"])["training"]
    over_all = prometheus.value(
        f"max_over_time(imagetrain_images_total{chief}[5m]) / max_over_time(imagetrain_step_seconds_sum{chief}[5m])"
    )
    # The trainer leaves out the images of the first execution, as it leaves out its time.
    assert over_all == pytest.approx(figures["images_per_second"], rel=TOLERANCE)

    for phase in ("Starting", "Training", "Succeeded"):
        found = prometheus.wait_for(
            f'max_over_time(imagetrain_operator_jobs{{namespace="{jobs.namespace}",phase="{phase}"}}[5m])', seconds=10
        )
        assert {series["value"][1] for series in found} == {"1"}, phase


def test_documented_rules_and_configuration_pass_prometheus_own_checks(
    prometheus: prometheus_processes.Prometheus,
) -> None:
    rules = prometheus_processes.documented_block("groups")
    assert prometheus_processes.check(["rules", "--lint=all", "--lint-fatal", "/dev/stdin"], rules) == ""
    assert prometheus_processes.check(["config", str(prometheus.configuration)], "") == ""
    reference = prometheus_processes.REFERENCE.read_text(encoding="utf-8")
    for block in re.findall(r"```promql\n(.*?)```", reference, re.DOTALL):
        for line in block.splitlines():
            prometheus.query(line)


def test_operator_serves_metrics_that_follow_prometheus_conventions(
    cluster: cluster_module.Cluster, operator: operator_processes.OperatorProcess
) -> None:
    text = operator_processes.fetch(cluster, "127.0.0.1", operator.port, "/metrics")
    assert "imagetrain_operator_leader 1.0" in text
    assert prometheus_processes.check(["metrics"], text) == ""
