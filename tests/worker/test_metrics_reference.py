import pathlib
import re

from imagetrain_api import progress, schema
from imagetrain_trainer.worker import metrics

REFERENCE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
FULL = progress.Progress(
    workers=2,
    loss=1.0,
    accuracy=0.5,
    validation_loss=1.0,
    validation_accuracy=0.5,
    learning_rate=0.1,
    eta_seconds=1.0,
    updated_at=1.0,
    seconds_by_phase={"training": 1.0},
    recoveries=(progress.Recovery(generation=1, reason="Killed"),),
)
LABELS = {
    "imagetrain_phase_seconds": {"phase"},
    "imagetrain_goodput_seconds": {"state"},
    "imagetrain_restarts": {"reason"},
}


def test_reference_lists_exactly_the_metrics_that_a_worker_serves() -> None:
    served = {}
    for family in metrics.WorkerCollector("ns", "job", lambda: FULL).collect():
        suffix = "_total" if family.type == "counter" else ""
        served[family.name + suffix] = family.type
    # Those of the operator: tests/operator/test_metrics_reference.py.
    rows = re.findall(r"^\| `(imagetrain_(?!operator_)\w+)` \| (\w+) \|", REFERENCE.read_text(), re.MULTILINE)
    assert dict(rows) == served


def test_each_metric_has_the_labels_that_the_reference_names() -> None:
    for family in metrics.WorkerCollector("ns", "job", lambda: FULL).collect():
        own = LABELS.get(family.name, set())
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {"namespace", "job"} | own


def test_only_the_chief_tells_of_recoveries_and_of_the_runs_time() -> None:
    other = schema.replace(FULL, rank=1)
    served = {family.name for family in metrics.WorkerCollector("ns", "job", lambda: other).collect()}
    assert not served & {"imagetrain_restarts", "imagetrain_goodput_seconds"}


def test_a_recovery_counts_once_over_all_scrapes() -> None:
    collector = metrics.WorkerCollector("ns", "job", lambda: FULL)
    for _ in range(3):
        (restarts,) = (family for family in collector.collect() if family.name == "imagetrain_restarts")
    assert [(sample.labels["reason"], sample.value) for sample in restarts.samples] == [("Killed", 1)]
