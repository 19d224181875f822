"""The HTML report of a run: one self-contained file, no scripts and nothing loaded from elsewhere.

This module turns the manifest and the history into what the template shows; the template only lays it out. Every text
is escaped by jinja2, for class names and settings come from users.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import jinja2

from imagetrain_api import model_manifest, progress, recoveries, schema
from imagetrain_trainer.publish import card, charts, figures, layout, timeline_chart

MAX_MATRIX_CLASSES = 30
_MAX_CONFUSIONS = 20
_FEW_SLICES = 8  # colours of the time bar

_CHARTS = (
    ("Loss", {"loss": ("training", "train"), "validation_loss": ("validation", "validation")}),
    ("Accuracy", {"accuracy": ("training", "train"), "validation_accuracy": ("validation", "validation")}),
    ("Learning rate", {"learning_rate": ("learning rate", "plain")}),
    ("Images per second", {"images_per_second": ("images per second", "plain")}),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the confusion matrix; `heat` is 0..1."""

    count: int
    heat: float
    is_right: bool
    hint: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One phase of the run's wall time."""

    name: str
    share: float
    text: str
    colour: int


def build_report(manifest: model_manifest.ModelManifest, history: Mapping[str, Any]) -> str:
    """Return the report as HTML.

    Args:
        manifest: the run; its artifacts are not shown, since the report is one of them.
        history: `epochs`, `timeline`, `recoveries`, `seconds_by_phase`, `samples`, `environment`, as history.json holds
            them; each may be absent.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("imagetrain_trainer.publish"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": figures.format_bytes,
        "digits": figures.format_digits,
        "milliseconds": figures.format_milliseconds,
        "percent": figures.format_percent,
        "share": figures.format_share,
        "value": figures.format_value,
    }
    return environment.get_template("report.html.j2").render(_build_view(manifest, history))


def _build_view(manifest: model_manifest.ModelManifest, history: Mapping[str, Any]) -> dict[str, Any]:
    matrix = manifest.test.get("confusion_matrix", ()) if len(manifest.classes) <= MAX_MATRIX_CLASSES else ()
    timeline = timeline_chart.build_timeline_chart(history.get("timeline", {}))
    drawn = (charts.build_chart(title, history.get("epochs", ()), series) for title, series in _CHARTS)
    return {
        "manifest": manifest,
        "tiles": [*build_tiles(manifest), *_build_goodput_tile(timeline)],
        "charts": [chart for chart in drawn if chart],
        "variants": _build_variants(manifest.variants),
        "matrix": build_matrix(matrix, manifest.classes),
        "confusions": list(manifest.test.get("top_confusions", ()))[:_MAX_CONFUSIONS],
        "recalls": _build_recalls(manifest),
        "samples": history.get("samples", ()),
        "timeline": timeline,
        "recoveries": _describe_recoveries(history.get("recoveries", ())),
        "slices": build_slices(history.get("seconds_by_phase", {})) if timeline is None else [],
        "splits": manifest.dataset.get("samples", {}),
        "settings": card.flatten(manifest.training),
        "environment": history.get("environment", {}),
    }


def build_tiles(manifest: model_manifest.ModelManifest) -> list[tuple[str, str, str]]:
    """Return the headline figures as (label, figure, note), leaving out what is not known."""
    test, training = manifest.test, manifest.training
    note = f"top-1 on {test.get('samples', 0):,} images"
    tiles = [("Test accuracy", figures.format_percent(test.get("accuracy", 0)), note)]
    if "loss" in test:
        tiles.append(("Test loss", figures.format_digits(test["loss"]), "cross entropy, nats"))
    speed, seconds = training.get("images_per_second"), training.get("training_seconds")
    if _is_number(speed):
        tiles.append(("Throughput", f"{speed:,.0f}", "training images per second"))
    if _is_number(seconds):
        epochs = training.get("epochs")
        tiles.append(("Training time", figures.format_seconds(seconds), f"{epochs} epochs" if epochs else "wall time"))
    published = [each for each in manifest.variants if each.is_published]
    if published:
        smallest = min(published, key=lambda each: each.size_bytes)
        fastest = min(published, key=lambda each: each.latency_median_ms)
        tiles.append(("Smallest model", figures.format_bytes(smallest.size_bytes), smallest.format))
        latency = figures.format_latency(fastest.latency_median_ms)
        tiles.append(("Fastest model", latency, f"{fastest.format}, one image"))
    return tiles


def _build_goodput_tile(timeline: timeline_chart.TimelineChart | None) -> list[tuple[str, str, str]]:
    if timeline is None:
        return []
    note = f"of {figures.format_seconds(timeline.seconds)} trained or validated"
    return [("Goodput", figures.format_share(timeline.goodput), note)]


def _describe_recoveries(told: Sequence[Mapping[str, Any]]) -> list[str]:
    decoded = [schema.decode(progress.Recovery, each) for each in told]
    return [recoveries.describe(each) for each in recoveries.finished(decoded)]


def _build_variants(variants: Sequence[model_manifest.Variant]) -> list[dict[str, Any]]:
    """Return rows of the variants table; ratios are against TFLite float32, bars against the largest in LiteRT.

    TensorFlow's call alone takes longer than a small net: its bar would flatten the others.
    """
    base = next((each for each in variants if each.format == layout.TFLITE_FLOAT32), None)
    largest = max((each.size_bytes for each in variants), default=1) or 1
    in_litert = [each.latency_median_ms for each in variants if each.format != layout.SAVED_MODEL]
    slowest = max(in_litert, default=0) or max((each.latency_median_ms for each in variants), default=1) or 1
    return [
        {
            "variant": each,
            "size_bar": each.size_bytes / largest,
            "latency_bar": min(1.0, each.latency_median_ms / slowest),
            "size_ratio": base.size_bytes / each.size_bytes if base and each.size_bytes else None,
            "speedup": base.latency_median_ms / each.latency_median_ms if base and each.latency_median_ms else None,
        }
        for each in variants
    ]


def build_matrix(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[list[Cell]]:
    """Return the confusion matrix with heat: right answers by share of their class, wrong ones against the worst."""
    shares = [[count / (sum(row) or 1) for count in row] for row in matrix]
    wrong = (share for index, row in enumerate(shares) for column, share in enumerate(row) if column != index)
    worst = max(wrong, default=0.0) or 1.0
    return [
        [
            Cell(
                count=matrix[index][column],
                heat=round(share if column == index else math.sqrt(share / worst), 3),
                is_right=column == index,
                hint=f"{matrix[index][column]} of {sum(matrix[index])} {classes[index]} taken for {classes[column]}",
            )
            for column, share in enumerate(row)
        ]
        for index, row in enumerate(shares)
    ]


def _build_recalls(manifest: model_manifest.ModelManifest) -> list[tuple[str, float]]:
    """Return the classes with their recall, the weakest first."""
    recalls = zip(manifest.classes, manifest.test.get("recall", ()), strict=False)
    known = [(name, recall) for name, recall in recalls if recall is not None]
    return sorted(known, key=lambda pair: pair[1])[:_MAX_CONFUSIONS]


def build_slices(seconds_by_phase: Mapping[str, float]) -> list[Slice]:
    """Return the phases that took time, longest first."""
    total = sum(seconds_by_phase.values())
    longest_first = sorted(seconds_by_phase.items(), key=lambda pair: -pair[1])
    return [
        Slice(
            name=name,
            share=round(seconds / total, 4),
            text=f"{figures.format_seconds(seconds)}, {figures.format_percent(seconds / total)}",
            colour=index % _FEW_SLICES,
        )
        for index, (name, seconds) in enumerate(longest_first)
        if seconds > 0
    ]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
