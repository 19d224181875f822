"""The model card: what was trained, on what, how well it does, what it is not for, and how to run it. Pure text."""

import re
from collections.abc import Mapping
from typing import Any

from imagetrain_api import model_manifest
from imagetrain_trainer.publish import figures, layout

_MAX_CLASSES_LISTED = 50
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~!])")

_FORMAT_NOTES = {
    layout.SAVED_MODEL: "the float model itself",
    layout.TFLITE_FLOAT32: "float32 weights and arithmetic",
    layout.TFLITE_DYNAMIC: "8-bit weights, float activations",
    layout.TFLITE_FLOAT16: "16-bit weights, float arithmetic",
    layout.TFLITE_INT8: "8-bit integers throughout",
}


def build_card(manifest: model_manifest.ModelManifest, environment: Mapping[str, str]) -> str:
    """Return the card as markdown.

    Args:
        manifest: the run; its variants' paths are relative to the published folder.
        environment: the machine that measured, as `environment.describe_environment` returns it.
    """
    sections = (
        _introduce(manifest),
        _describe_data(manifest),
        _describe_training(manifest),
        _describe_results(manifest, environment),
        _describe_limits(manifest),
        _describe_use(manifest),
    )
    return "\n".join(line for section in sections for line in [*section, ""])


def _introduce(manifest: model_manifest.ModelManifest) -> list[str]:
    height, width, channels = manifest.input_shape
    colour = "greyscale" if channels == 1 else "RGB"
    return [
        f"# {escape(manifest.job)}",
        "",
        (
            f"An image classifier of {len(manifest.classes)} classes: `{manifest.architecture}` on {colour} images of "
            f"{width} x {height} pixels. Top-1 accuracy on the test split: **{_accuracy(manifest)}**."
        ),
        "",
        f"Run `{manifest.run_id}`, published {manifest.created_at} by imagetrain {manifest.imagetrain_version}.",
    ]


def _describe_data(manifest: model_manifest.ModelManifest) -> list[str]:
    samples = manifest.dataset.get("samples", {})
    shown = ", ".join(escape(name) for name in manifest.classes[:_MAX_CLASSES_LISTED])
    more = len(manifest.classes) - _MAX_CLASSES_LISTED
    return [
        "## Data",
        "",
        f"- Source: `{manifest.dataset.get('uri', '')}`",
        f"- Digest: `{manifest.dataset.get('digest', '')}`",
        f"- Images: {', '.join(f'{count:,} {split}' for split, count in samples.items())}",
        f"- Classes: {shown}{f', and {more} more in labels.txt' if more > 0 else ''}",
    ]


def _describe_training(manifest: model_manifest.ModelManifest) -> list[str]:
    rows = flatten(manifest.training)
    return ["## Training", "", "| Setting or figure | Value |", "|---|---|"] + [
        f"| {escape(name)} | {escape(value)} |" for name, value in rows
    ]


def _describe_results(manifest: model_manifest.ModelManifest, environment: Mapping[str, str]) -> list[str]:
    machine = ", ".join(escape(environment[key]) for key in ("processor", "cores available") if key in environment)
    lines = [
        "## Results",
        "",
        (
            f"Measured on all {manifest.test.get('samples', 0):,} images of the test split, never seen in training. "
            f"Latency is of one image on one thread ({machine} cores); the SavedModel runs in TensorFlow, the others "
            "in LiteRT."
        ),
        "",
        "| Format | What | Top-1 | Against float | Same answer | Size | Median | 95th percentile | State |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in manifest.variants:
        state = "refused" if not each.is_published else "published by force" if each.is_forced else "published"
        lines.append(
            f"| `{each.format}` | {_FORMAT_NOTES[each.format]} | {figures.format_percent(each.accuracy)} | "
            f"{0.0 - 100 * each.accuracy_drop:+.2f} points | {figures.format_percent(each.agreement)} | "
            f"{figures.format_bytes(each.size_bytes)} | {figures.format_milliseconds(each.latency_median_ms)} | "
            f"{figures.format_milliseconds(each.latency_p95_ms)} | {state} |"
        )
    refusals = [f"- `{each.format}`: {escape(each.refusal)}" for each in manifest.variants if each.refusal]
    return lines + (["", "The gate refused:", "", *refusals] if refusals else [])


def _describe_limits(manifest: model_manifest.ModelManifest) -> list[str]:
    weakest = _weakest_class(manifest)
    lines = [
        "## Intended use and limits",
        "",
        (
            "- Meant for images like those of the data set above. Accuracy on images from elsewhere (another camera, "
            "light, crop or population) is not known; measure it before relying on it."
        ),
        "- Every image gets one of the classes, also one that shows none of them. Probabilities are not calibrated.",
        "- Latency depends on the machine; compare formats on the device that will run them.",
    ]
    if weakest:
        share = figures.format_percent(weakest[1])
        lines.append(f"- Weakest class: {escape(weakest[0])}, of which {share} are recognised.")
    if any(each.format == layout.TFLITE_INT8 for each in manifest.variants):
        lines.append("- `tflite_int8` rounds probabilities to steps of 1/256.")
    return lines


def _describe_use(manifest: model_manifest.ModelManifest) -> list[str]:
    lines = ["## How to run it", "", "Pixel values are 0 to 255 in every format; nothing has to be rescaled."]
    for each in manifest.variants:
        if each.is_published:
            lines += ["", f"`{each.format}`:", "", "```python", *_load_lines(each, manifest.input_shape), "```"]
    return lines


def _load_lines(variant: model_manifest.Variant, input_shape: tuple[int, ...]) -> list[str]:
    if variant.format == layout.SAVED_MODEL:
        return [
            "import tensorflow as tf",
            f'classify = tf.saved_model.load("{variant.path}").signatures["serve_encoded"]',
            'print(classify(encoded=tf.io.read_file("image.png")[tf.newaxis]))  # PNG or JPEG of any size',
        ]
    shift = ", each less 128" if variant.input_type == "int8" else ""
    shape = ", ".join(str(size) for size in (1, *input_shape))
    return [
        "from ai_edge_litert.interpreter import Interpreter",
        f'classify = Interpreter("{variant.path}").get_signature_runner()',
        f"print(classify(images=images))  # images: ({shape}) {variant.input_type}, pixel values 0 to 255{shift}",
    ]


def _accuracy(manifest: model_manifest.ModelManifest) -> str:
    return figures.format_percent(float(manifest.test.get("accuracy", 0)))


def _weakest_class(manifest: model_manifest.ModelManifest) -> tuple[str, float] | None:
    recalls = manifest.test.get("recall")
    pairs = zip(manifest.classes, recalls or (), strict=False)
    known = [(recall, name) for name, recall in pairs if recall is not None]
    if not known:
        return None
    recall, name = min(known)
    return name, recall


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as rows of dotted names and short texts, in order."""
    rows = []
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            rows += flatten(value, name)
        elif isinstance(value, list | tuple) and not key.lower().endswith("shape"):
            rows.append((name, "; ".join(map(_format_item, value)) or "-"))
        else:
            rows.append((name, figures.format_value(value)))
    return rows


def _format_item(item: object) -> str:
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {figures.format_value(value)}" for key, value in item.items())
    return figures.format_value(item)


def escape(text: str) -> str:
    """Return text that markdown shows as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
