"""`imagetrain predict`."""

import json
import pathlib
from typing import TYPE_CHECKING, Any

import click

from imagetrain_client.cli import native_output, parameters
from imagetrain_client.display import wording

if TYPE_CHECKING:
    from imagetrain_trainer.publish import predict as predict_module


@click.command(
    cls=parameters.Command,
    examples="""
    imagetrain predict s3://models/photos/ cat.jpg dog.jpg
    imagetrain predict s3://models/photos/ cat.jpg --format tflite_int8 --top 1
    imagetrain predict phone/model_int8.tflite cat.jpg --json
    """,
)
@click.argument("model")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=pathlib.Path))
@click.option("--run", default="latest", show_default=True, help="Run to take, where MODEL is a job's output.uri.")
@click.option("--format", "model_format", help="Format to take, where MODEL has several.")
@click.option("--top", type=click.IntRange(1, 1000), default=3, show_default=True, help="Classes to show.")
@click.option("--json", "is_json", is_flag=True, help="Write one JSON document.")
def predict(
    *, model: str, images: tuple[pathlib.Path, ...], run: str, model_format: str | None, top: int, is_json: bool
) -> None:
    """Classify images with a published model.

    MODEL is the output.uri of a job, a downloaded folder, a SavedModel folder or a .tflite file beside its labels.txt.
    """
    with native_output.hidden_unless(parameters.is_debugging()):
        from imagetrain_trainer.publish import predict as predict_module

        predictor = predict_module.load_predictor(model, run=run, model_format=model_format)
        predictions = predictor.predict_files(images, top=top)
    if is_json:
        click.echo(json.dumps([_document(each) for each in predictions], indent=1))
        return
    click.echo(predictor.description)
    for each in predictions:
        shares = ", ".join(f"{choice.name} {wording.percent(choice.probability)}" for choice in each.classes)
        click.echo(f"{each.path}: {shares}")


def _document(prediction: "predict_module.Prediction") -> dict[str, Any]:
    return {
        "path": str(prediction.path),
        "classes": [
            {"name": choice.name, "classId": choice.class_id, "probability": choice.probability}
            for choice in prediction.classes
        ],
    }
