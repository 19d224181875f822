"""`imagetrain data bench`: which stage of the input bounds training, and what to change."""

import json
import os
import pathlib
import tempfile
from typing import TYPE_CHECKING

import click

from imagetrain_client.cli import native_output, parameters
from imagetrain_client.display import input_stages

if TYPE_CHECKING:
    from imagetrain_api import job


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain data bench s3://datasets/photos/v3/
    imagetrain data bench s3://datasets/photos/latest --manifest job.yaml
    imagetrain data bench /srv/datasets/photos --size 160x160 --cache /var/tmp --json
    """,
)
@click.argument("uri")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="train", show_default=True)
@click.option("--manifest", help="Take input shape, batch size and augmentation of this job.")
@click.option(
    "--size", type=parameters.ImageSize(), help="Input size of the model.  [default: the images', or 224x224]"
)
@click.option("--batch", type=click.IntRange(1, 65536), default=64, show_default=True, help="Images of a batch.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="Time of a stage.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=pathlib.Path),
    help="Also measure a disk cache in this folder; nothing stays there.",
)
@click.option("--reading-only", is_flag=True, help="Leave out the stages that need TensorFlow.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def bench(  # noqa: PLR0913 - click passes one argument an option
    uri: str,
    *,
    split: str,
    manifest: str | None,
    size: tuple[int, int] | None,
    batch: int,
    seconds: float,
    cache: pathlib.Path | None,
    reading_only: bool,
    is_json: bool,
) -> None:
    """Measure on this machine how fast the data set at URI gets into training steps, stage by stage.

    Each stage runs alone on the data set's own images, then all together: get (requests to the storage), crc, parse,
    batch (records into tensors), decode, augment, and copy where there is an accelerator. Says which of them bounds,
    and what to change.
    """
    from imagetrain_trainer.data import bench as measures
    from imagetrain_trainer.data import bench_verdict, dataset, reader, versions

    objects = versions.locate(uri).objects
    facts = dataset.load_dataset(objects)
    options = reader.ReaderOptions()
    spec, whole = None, None
    with tempfile.TemporaryDirectory() as folder:
        sample = measures.take_sample(objects, split, pathlib.Path(folder))
        stages = [
            measures.measure_get(objects, split, seconds, options),
            *measures.measure_check_and_parse(sample, seconds),
        ]
        if cache is not None:
            stages += measures.measure_cache(sample, cache, seconds)
        if not reading_only:
            with native_output.hidden_unless(parameters.is_debugging()):
                from imagetrain_trainer.training import input_bench

                spec = _read_spec(manifest) if manifest else input_bench.build_spec(facts.image, batch, size)
                stages += input_bench.measure_pixels(sample, spec, seconds)
                whole = input_bench.measure_whole(objects, split, spec, options, seconds)
    cores = len(os.sched_getaffinity(0))
    verdict = bench_verdict.judge(
        stages,
        cores=cores,
        image=facts.image,
        input_shape=spec.model.input_shape if spec else None,
        is_resident=facts.splits[split].size_bytes <= options.in_memory_bytes,
    )
    report = input_stages.Report(objects.uri, facts.splits[split], stages, whole, verdict, cores)
    click.echo(json.dumps(report.as_json(), indent=1) if is_json else "\n".join(report.lines()))


def _read_spec(path: str) -> "job.JobSpec":
    from imagetrain_client import manifests

    return manifests.decode_manifest(manifests.read_manifest(path)).spec
