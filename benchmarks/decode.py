"""Decoding and augmenting beside tf.image's own fused pipeline, in images a second of the same JPEGs in one run.

    python benchmarks/decode.py [--quick]

tf.image: sample_distorted_bounding_box, decode_and_crop_jpeg, resize to 224, random_flip_left_right, batch of 64, with
as many parallel calls as tf.data likes. The product: `DecodePipeline` with the windows and flips of a training job.
Both are fed with the same batches of bytes, as a reader outside TensorFlow makes them; `unfed` is tf.image over a
constant of the graph, to tell what the feeding costs. Rows:

    jpeg     photographs of 500 x 375 pixels and about 110 KB, cropped, resized to 224, mirrored (goal 1.0)
    raw      the same, stored as arrays of 224 x 224, cropped, resized and mirrored (goal 3.0)
    large    photographs of 2000 x 1500 pixels: windows far larger than the input shape (no goal)

Each round runs all, one after the other and in turn first; the figures are medians of the rounds' ratios. Exits with 1
where a goal is missed. Other work on the machine moves the images a second; the CPU time beside them moves less.
"""

import argparse
import dataclasses
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from imagetrain_api import job, names
from imagetrain_trainer.data import blocks, dataset, example, pipeline, record_batch, sampler
from imagetrain_trainer.storage import allocator
from imagetrain_trainer.training import batch_changes

BATCH, SIDE = 64, 224
AROUND = 5  # batches before and after those that are timed: more than a pipeline holds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row: what the product and tf.image are given."""

    name: str
    encoding: str
    height: int
    width: int
    payloads: list[bytes]
    files: list[bytes]
    goal: float | None


def draw_photograph(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return soft shapes of many sizes under a sensor's noise: (height, width, 3)."""
    pixels = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 45.0), (12, 22.0), (40, 13.0), (120, 9.0)):
        for channel in range(3):
            coarse = Image.fromarray(random.normal(0, strength, (cells, cells)).astype(np.float32))
            pixels[..., channel] += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    pixels += 128 + random.normal(0, 8, (height, width, 1)) + random.normal(0, 3, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a JPEG of good quality."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def build_cases(names_asked: list[str]) -> Iterator[Case]:
    """Make the images of each row."""
    random = np.random.default_rng(0)
    photographs = [draw_photograph(random, 375, 500) for _ in range(BATCH)]
    files = [encode(pixels) for pixels in photographs]
    if "jpeg" in names_asked:
        yield Case(name="jpeg", encoding="jpeg", height=375, width=500, payloads=files, files=files, goal=1.0)
    if "raw" in names_asked:
        arrays = [np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE))).tobytes() for pixels in photographs]
        yield Case(name="raw", encoding="raw", height=SIDE, width=SIDE, payloads=arrays, files=files, goal=3.0)
    if "large" in names_asked:
        large = [encode(draw_photograph(random, 1500, 2000)) for _ in range(8)] * (BATCH // 8)
        yield Case(name="large", encoding="jpeg", height=1500, width=2000, payloads=large, files=large, goal=None)


def build_fed(case: Case, batches: int) -> tf.data.Dataset:
    """Return tf.image's pipeline over `batches` batches of the case's files, each handed over as a whole."""
    signature = tf.TensorSpec((None,), tf.string)
    handed = tf.data.Dataset.from_generator(lambda: (case.files for _ in range(batches)), output_signature=signature)
    return build_fused(handed.unbatch())


def build_unfed(case: Case, batches: int) -> tf.data.Dataset:
    """Return tf.image's pipeline over the case's files as a constant, `batches` times."""
    return build_fused(tf.data.Dataset.from_tensor_slices(case.files).repeat(batches))


def build_fused(strings: tf.data.Dataset) -> tf.data.Dataset:
    """Return tf.image's pipeline over JPEG files."""

    def decode(contents: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(contents),
            tf.zeros([0, 0, 4]),
            min_object_covered=0.1,
            area_range=(0.08, 1.0),
            aspect_ratio_range=(0.75, 1.333),
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
        )
        image = tf.io.decode_and_crop_jpeg(contents, tf.concat([begin[:2], size[:2]], 0), channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, (SIDE, SIDE)))
        return tf.ensure_shape(image, (SIDE, SIDE, 3))

    return strings.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(BATCH).prefetch(2)


def build_product(case: Case, batches: int) -> tf.data.Dataset:
    """Return the product's pipeline over as many record batches."""
    manifest = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "decode"},
        "spec": {
            "data": {"uri": "s3://data/decode"},
            "model": {"architecture": "mobilenet_v2", "inputShape": [SIDE, SIDE, 3]},
            "training": {"globalBatchSize": BATCH, "augmentation": {"crop": {}, "flip": "horizontal"}},
            "output": {"uri": "s3://models/decode"},
        },
    }
    spec = job.decode_job(manifest).spec
    layout = blocks.plan([BATCH * batches], sum(map(len, case.payloads)) * batches)
    order = sampler.Sampler(layout, BATCH, seed=0)
    changes = batch_changes.BatchChanges(spec, order, iter([(step, 0) for step in range(batches)]), world_size=1)
    image = dataset.ImageFacts(
        encoding=case.encoding,
        channels=3,
        height=case.height,
        width=case.width,
        min_height=case.height,
        max_height=case.height,
        min_width=case.width,
        max_width=case.width,
    )
    made = (build_batch(case, order.batch_records(step)) for step in range(batches))
    return pipeline.DecodePipeline(
        made,
        image,
        spec.model.input_shape,
        most_images=BATCH,
        companions=changes.draw,
        signature=changes.signature,
    ).dataset


def build_batch(case: Case, record_ids: npt.NDArray[np.int64]) -> record_batch.RecordBatch:
    """Return a batch as the reader would."""
    return record_batch.build(
        record_ids,
        [
            example.Record(payload, 0, case.encoding, case.height, case.width, 3, f"{number}")
            for number, payload in enumerate(case.payloads)
        ],
    )


def measure(data: tf.data.Dataset, batches: int) -> tuple[float, float]:
    """Return images a second, and CPU milliseconds an image, of some batches in the midst of a running pipeline."""
    iterator = iter(data)
    for _ in range(AROUND):
        next(iterator)
    started_at, cpu_before = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(iterator)
    seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_before
    return BATCH * batches / seconds, 1000 * cpu_seconds / (BATCH * batches)


def compare(case: Case, batches: int, rounds: int) -> bool:
    """Print a row; return whether its goal is reached."""
    builders = (build_product, build_fed, build_unfed)
    found: dict[Any, list[tuple[float, float]]] = {build: [] for build in builders}
    for number in range(rounds + 1):  # the first warms up
        for build in builders if number % 2 else reversed(builders):
            found[build].append(measure(build(case, batches + 2 * AROUND), batches))
    product, fed, unfed = (found[build][1:] for build in builders)
    ratio, cpu, text = tell_ratios(product, fed)
    is_reached = case.goal is None or ratio >= case.goal
    verdict = "no goal" if case.goal is None else f"goal {case.goal}: {'pass' if is_reached else 'FAIL'}"
    print(
        f"{case.name:6s}{sum(map(len, case.files)) // BATCH:8d} B: {text} (CPU x{cpu:.3f}); {verdict}\n"
        f"       best: product {tell_best(product)}; tf.image {tell_best(fed)}; unfed {tell_best(unfed)}; "
        f"to unfed {tell_ratios(product, unfed)[2]}",
        flush=True,
    )
    return is_reached


def tell_ratios(ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> tuple[float, float, str]:
    """Return the medians of both ratios, images/s and CPU, and the first as text."""
    ratios = [mine[0] / other[0] for mine, other in zip(ours, theirs, strict=True)]
    cpu = statistics.median(other[1] / mine[1] for mine, other in zip(ours, theirs, strict=True))
    ratio = statistics.median(ratios)
    return ratio, cpu, f"images/s x{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def tell_best(rounds: list[tuple[float, float]]) -> str:
    """Return the best of some rounds as text."""
    return f"{max(rate for rate, _ in rounds):.0f} images/s, {min(cpu for _, cpu in rounds):.3f} CPU ms an image"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--rows", nargs="+", default=["jpeg", "raw", "large"], choices=["jpeg", "raw", "large"])
    arguments = parser.parse_args()
    if len(arguments.rows) > 1:  # a process each, as of training: what a row leaves in the heap slows the next one
        own = [sys.executable, __file__, *(["--quick"] if arguments.quick else [])]
        sys.exit(max(subprocess.run([*own, "--rows", row], check=False).returncode for row in arguments.rows))
    allocator.keep_freed_memory()  # as opening a store does in a training process
    batches, rounds = (9, 3) if arguments.quick else (25, 9)
    is_reached = [
        compare(case, batches if case.goal else max(3, batches // 5), rounds) for case in build_cases(arguments.rows)
    ]
    sys.exit(0 if all(is_reached) else 1)


if __name__ == "__main__":
    main()
