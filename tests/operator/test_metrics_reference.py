import pathlib
import re

import prometheus_client.parser
import yaml

import observations
from imagetrain_operator import metrics

REFERENCE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
OPERATORS_OWN = re.compile(r"^\| `(imagetrain_operator_\w+)` \| (\w+) \| (.*?) ?\|", re.MULTILINE)


def build_metrics() -> metrics.OperatorMetrics:
    """Return metrics that all have a sample."""
    figures = metrics.OperatorMetrics(lambda: [observations.build_job()], lambda: 3)
    figures.reconcile_seconds.labels("ok").observe(0.01)
    figures.watch_events.labels("Pod").inc()
    figures.first_step_seconds.observe(12)
    figures.count_request("GET", "200")
    figures.count_end("vision", "Hung", is_followed=True)
    return figures


def served_families() -> list[prometheus_client.Metric]:
    """Return the operator's own families, as a Prometheus reads them."""
    text = build_metrics().render().decode()
    families = prometheus_client.parser.text_string_to_metric_families(text)
    return [family for family in families if not family.name.startswith("process_")]


def full_name(family: prometheus_client.Metric) -> str:
    """Return the name that stands in queries."""
    return family.name + ("_total" if family.type == "counter" else "")


def test_reference_lists_exactly_the_metrics_types_and_labels_that_an_operator_serves() -> None:
    served = {
        full_name(family): (family.type, {name for sample in family.samples for name in sample.labels} - {"le"})
        for family in served_families()
    }
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in OPERATORS_OWN.findall(REFERENCE)
    }
    assert documented == served


def test_no_series_tells_when_another_was_created() -> None:
    assert "_created" not in build_metrics().render().decode()


def test_each_query_and_alert_names_a_metric_of_the_reference() -> None:
    documented = set(re.findall(r"^\| `(imagetrain_\w+)`", REFERENCE, re.MULTILINE))
    blocks = re.findall(r"```promql\n(.*?)```", REFERENCE, re.DOTALL)
    alerts = next(block for block in re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL) if "groups:" in block)
    blocks += [rule["expr"] for group in yaml.safe_load(alerts)["groups"] for rule in group["rules"]]
    used = {name for block in blocks for name in re.findall(r"imagetrain_\w+", block)}
    series = re.compile(r"_(?:bucket|count|sum)$")
    assert {series.sub("", name) for name in used} <= documented


def test_a_job_is_counted_by_namespace_phase_and_reason() -> None:
    samples = {
        family.name: [(sample.labels, sample.value) for sample in family.samples] for family in served_families()
    }
    assert samples["imagetrain_operator_jobs"] == [({"namespace": "vision", "phase": "Pending", "reason": ""}, 1.0)]
    assert samples["imagetrain_operator_queue_depth"] == [({}, 3.0)]


def test_only_what_follows_a_failure_is_a_restart() -> None:
    figures = metrics.OperatorMetrics(list, int)
    figures.count_end("vision", "OOMKilled", is_followed=True)
    figures.count_end("vision", "BadConfig", is_followed=False)
    figures.count_end("vision", "Suspended", is_followed=True)

    def value(name: str, reason: str) -> float | None:
        return figures.registry.get_sample_value(
            f"imagetrain_operator_{name}_total", {"namespace": "vision", "reason": reason}
        )

    assert [value("attempts_ended", reason) for reason in ("OOMKilled", "BadConfig", "Suspended")] == [1, 1, 1]
    assert [value("restarts", reason) for reason in ("OOMKilled", "BadConfig", "Suspended")] == [1, None, None]
