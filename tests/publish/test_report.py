import html.parser
import re

import numpy as np
import pytest

from imagetrain_trainer.publish import environment, report, samples
from publish_cases import build_draft, build_variant

EPOCHS = [
    {
        "epoch": number,
        "loss": 1 / number,
        "accuracy": 1 - 1 / number,
        "validation_loss": 1.2 / number,
        "validation_accuracy": 0.9,
        "learning_rate": 0.001,
    }
    for number in range(1, 4)
]
TEST = {
    "samples": 30,
    "accuracy": 0.9,
    "loss": 0.3,
    "recall": [1.0, 0.9, None],
    "confusion_matrix": [[9, 0, 1], [0, 10, 0], [0, 0, 0]],
}
VOID = frozenset({"meta", "img", "br"})


class Outline(html.parser.HTMLParser):
    """Checks that every element is closed, and collects texts, element names and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.texts, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())


def outline(text):
    parser = Outline()
    parser.feed(text)
    assert parser.open == []
    return parser


def build(history=None, **changes):
    return report.build_report(build_draft(**{"test": TEST, **changes}), history or {})


def test_a_full_report_is_closed_html_that_loads_nothing():
    collector = samples.SampleCollector(("cat", "dog", "owl"))
    collector.add(np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]), np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1]]))
    history = {
        "epochs": EPOCHS,
        "seconds_by_phase": {"training": 42.0, "publishing": 8.0, "starting": 0.0},
        "samples": collector.collect(),
        "environment": environment.describe_environment(),
    }
    text = build(history)
    parsed = outline(text)
    assert "script" not in parsed.elements
    assert "link" not in parsed.elements
    assert all(address.startswith("data:image/png;base64,") for address in parsed.addresses)
    assert not re.search(r"url\(|@import|https?://", text)
    for words in (
        "Loss",
        "Accuracy",
        "Learning rate",
        "Confusion matrix",
        "Sample predictions",
        "Time by phase",
        "Environment",
    ):
        assert words in parsed.texts, words
    assert "42.0 s, 84.00 %" in parsed.texts
    assert "starting" not in parsed.texts  # took no time


def test_a_report_of_an_empty_history_still_shows_the_models():
    parsed = outline(build(test={}, dataset={}, training={}))
    assert "Models" in parsed.texts
    assert "Training by epoch" not in parsed.texts
    assert "Confusion matrix" not in parsed.texts


def test_refused_and_forced_variants_say_why():
    refused = build_variant("tflite_int8", "", is_published=False, refusal="accuracy drop is 0.1.", accuracy_drop=0.1)
    forced = build_variant("tflite_dynamic", "model_dynamic.tflite", is_forced=True, refusal="it is slow.")
    parsed = outline(build(variants=(build_variant("tflite_float32", "model_float32.tflite"), refused, forced)))
    for words in ("refused", "forced", "accuracy drop is 0.1.", "it is slow.", "-10.00 pt"):
        assert words in parsed.texts, words


def test_text_from_users_is_escaped():
    hostile = '<img src=x onerror=alert(1)>"&'
    history = {
        "epochs": [],
        "samples": [{"png_base64": '"><b>', "label": hostile, "predicted": "dog", "probability": 0.5}],
    }
    variant = build_variant("tflite_int8", "x", refusal=hostile)
    text = build(history, classes=(hostile, "dog", "owl"), variants=(variant,), training={hostile: hostile})
    assert "<img src=x" not in text
    assert "<b>" not in text
    assert hostile in outline(text).texts


@pytest.mark.parametrize(("classes", "has_matrix"), [(30, True), (31, False)])
def test_a_large_matrix_gives_way_to_the_most_frequent_confusions(classes, has_matrix):
    names = tuple(f"class {index}" for index in range(classes))
    matrix = (np.eye(classes, dtype=int) * 9).tolist()
    test = {"samples": 9 * classes, "accuracy": 1.0, "confusion_matrix": matrix,
            "top_confusions": [{"label": "class 3", "predicted": "class 5", "count": 2}]}  # fmt: skip
    parsed = outline(build(classes=names, test=test))
    assert ("Confusion matrix" in parsed.texts) == has_matrix
    assert ("Most frequent confusions" in parsed.texts) != has_matrix


def test_heat_shows_right_answers_by_share_and_wrong_ones_against_the_worst():
    cells = report.build_matrix([[8, 2, 0], [0, 0, 0], [4, 0, 4]], ("a", "b", "c"))
    assert cells[0][0].heat == 0.8
    assert cells[0][0].is_right
    assert cells[2][0].heat == 1.0  # the worst: half of c
    assert cells[0][1].heat == pytest.approx((0.2 / 0.5) ** 0.5, abs=1e-3)
    assert cells[1][1].heat == 0  # no sample of b
    assert cells[2][0].hint == "4 of 8 c taken for a"


def test_tiles_leave_out_what_is_not_known():
    labels = [label for label, _, _ in report.build_tiles(build_draft(test=TEST, training={"images_per_second": None}))]
    assert labels == ["Test accuracy", "Test loss", "Smallest model", "Fastest model"]
    training = {"images_per_second": 1234.5, "training_seconds": 61.0, "epochs": 3}
    tiles = {label: (figure, note) for label, figure, note in report.build_tiles(build_draft(training=training))}
    assert tiles["Throughput"][0] == "1,234"
    assert tiles["Training time"] == ("1 min 1 s", "3 epochs")


def test_no_time_has_no_slices():
    assert report.build_slices({}) == []
    assert report.build_slices({"training": 0.0}) == []


def test_the_environment_names_the_processor_and_no_host():
    import platform  # noqa: PLC0415

    described = environment.describe_environment()
    assert described["processor"]
    assert int(described["cores available"]) >= 1
    assert "ai-edge-litert" in described
    assert platform.node() not in described.values()


def test_the_timeline_shows_goodput_and_what_was_recovered_from():
    history = {
        "seconds_by_phase": {"training": 42.0},
        "timeline": {
            "width": 10.0,
            "columns": [{"starting": 10.0}, {"training": 10.0}, {"recovery": 5.0, "training": 5.0}],
            "restarts": 3,
        },
        "recoveries": [
            {
                "generation": 1,
                "reason": "Killed",
                "rank": 1,
                "message": "<b>Rank 1</b> was killed.",
                "step": 12,
                "resumedStep": 10,
                "resumedAt": 9.0,
                "lostSeconds": 5.0,
            }
        ],
    }
    text = build(history)
    parsed = outline(text)
    assert "Timeline" in parsed.texts
    assert "Time by phase" not in parsed.texts  # that of one process alone
    assert parsed.texts[parsed.texts.index("Goodput") + 1 :].index("50.0 %") < 3
    line = "<b>Rank 1</b> was killed at step 12; the group goes on from step 10 in place, 5.0 s lost."
    assert line in parsed.texts
    words = " ".join(" ".join(parsed.texts).split())
    assert "1 recovery in place" in words
    assert "it came back from 3 failures." in words
    assert "2 of the failures are not listed: whole workers were replaced then." in words
