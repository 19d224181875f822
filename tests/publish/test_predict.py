import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
from PIL import Image

from imagetrain_trainer import errors
from imagetrain_trainer.publish import catalog, download, predict, publisher
from imagetrain_trainer.storage import store
from publish_cases import CLASSES, build_draft, build_variant

NO_TENSORFLOW = textwrap.dedent(
    """
    import pathlib, sys
    from imagetrain_trainer.publish import catalog, download, predict
    predictor = predict.load_predictor(sys.argv[1])
    print(predictor.predict_files([pathlib.Path(sys.argv[2])])[0].classes[0].name)
    assert "tensorflow" not in sys.modules and "keras" not in sys.modules
    """
)


@pytest.fixture(scope="module")
def published(tiny, tmp_path_factory):
    """Return the URI of a job whose newest run has three formats, and whose int8 was refused."""
    folder = tmp_path_factory.mktemp("published")
    variants = []
    for name, model in tiny.built.items():
        is_published = name in ("saved_model", "tflite_float32", "tflite_dynamic")
        variants.append(
            build_variant(name, model.path.name, is_published=is_published, refusal="" if is_published else "bad.")
        )
        if is_published and model.path.is_dir():
            shutil.copytree(model.path, folder / "files" / model.path.name)
        elif is_published:
            shutil.copy(model.path, folder / "files")
    (folder / "files" / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    output = store.open_store(f"file://{folder}/output/")
    publisher.publish_run(output, build_draft(variants=tuple(variants)), folder / "files")
    return output


@pytest.fixture(scope="module")
def pictures(tiny, tmp_path_factory):
    """Return the paths of six images; those of odd number are enlarged JPEGs."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, image in enumerate(tiny.images[:6]):
        picture = Image.fromarray(image[:, :, 0])
        paths.append(folder / (f"{number}.jpg" if number % 2 else f"{number}.png"))
        (picture.resize((32, 32), Image.Resampling.NEAREST) if number % 2 else picture).save(paths[-1])
    return paths


@pytest.mark.parametrize("model_format", [None, "saved_model", "tflite_float32", "tflite_dynamic"])
def test_every_format_at_a_uri_classifies_files_of_any_size(published, pictures, tiny, model_format):
    predictor = predict.load_predictor(published.uri, model_format=model_format)
    predictions = predictor.predict_files(pictures, top=2)
    assert [each.path for each in predictions] == pictures
    assert [each.classes[0].class_id for each in predictions] == tiny.labels[:6].tolist()
    for each in predictions:
        best, second = each.classes
        assert best.name == CLASSES[best.class_id]
        assert 1 >= best.probability >= second.probability >= 0
    assert predictor.description == f"{model_format or 'tflite_float32'} of tiny, run run-a (small_cnn)"
    assert (predictor.classes, predictor.runner.input_shape) == (CLASSES, (8, 8, 1))


def test_a_downloaded_folder_and_its_files_are_models(published, pictures, tiny, tmp_path):
    folder = download.download(published, catalog.load_manifest(published), tmp_path / "model")
    for model in (folder, folder / "model_dynamic.tflite", folder / "saved_model"):
        predictor = predict.load_predictor(str(model))
        assert predictor.classes == CLASSES
        assert [each.classes[0].class_id for each in predictor.predict_files(pictures)] == tiny.labels[:6].tolist()
    chosen = predict.load_predictor(str(folder), model_format="tflite_dynamic")
    assert chosen.description.startswith("tflite_dynamic")


def test_a_quantized_model_gives_probabilities(tiny, pictures, tmp_path):
    shutil.copy(tiny.built["tflite_int8"].path, tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\nowl\n")
    predictor = predict.load_predictor(str(tmp_path / "model_int8.tflite"))
    for each, label in zip(predictor.predict_files(pictures, top=3), tiny.labels, strict=False):
        assert each.classes[0].class_id == label
        assert sum(answer.probability for answer in each.classes) == pytest.approx(1, abs=0.02)


def test_many_files_are_classified_in_order(published, pictures):
    predictor = predict.load_predictor(published.uri)
    answers = [each.classes[0].class_id for each in predictor.predict_files(pictures * 12)]
    assert answers == answers[:6] * 12
    assert predictor.predict_files([]) == []


def test_tflite_needs_no_tensorflow(published, pictures, tiny):
    result = subprocess.run(
        [sys.executable, "-c", NO_TENSORFLOW, published.uri, pictures[0]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [CLASSES[tiny.labels[0]]]


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("no/such/model", {}, "MODEL must be a .tflite file"),
        ("{uri}", {"model_format": "tflite_int8"}, "The gate refused it: bad."),
        ("{uri}", {"model_format": "onnx"}, "format must be one of saved_model, tflite_float32, tflite_dynamic"),
    ],
)
def test_a_model_that_is_not_there_says_what_is(published, model, options, words):
    with pytest.raises(errors.ConfigError, match=words):
        predict.load_predictor(model.format(uri=published.uri), **options)


def test_an_unknown_run_is_named(published):
    with pytest.raises(errors.ObjectNotFoundError, match="'run-z' is unknown"):
        predict.load_predictor(published.uri, run="run-z")


def test_a_partly_downloaded_folder_names_the_formats_it_has(published, tmp_path):
    folder = download.download(published, catalog.load_manifest(published), tmp_path / "model", ["tflite_dynamic"])
    assert predict.load_predictor(str(folder)).description.startswith("tflite_dynamic")
    with pytest.raises(errors.ConfigError, match=r"format must be one of tflite_dynamic in .* Download that one too"):
        predict.load_predictor(str(folder), model_format="saved_model")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(errors.DataCorruptError, match=r"manifest\.json is damaged"):
        predict.load_predictor(str(folder))


@pytest.mark.parametrize(
    ("labels", "words"),
    [(None, "but is not readable. Put it beside the model"), ("cat\ndog\n", r"must name the 3 classes .*, got 2")],
)
def test_missing_or_foreign_labels_are_named(tiny, tmp_path, labels, words):
    shutil.copy(tiny.built["tflite_float32"].path, tmp_path)
    if labels is not None:
        (tmp_path / "labels.txt").write_text(labels)
    with pytest.raises(errors.ConfigError, match=words):
        predict.load_predictor(str(tmp_path / "model_float32.tflite"))


@pytest.mark.parametrize("content", [None, b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_image_is_named(published, pictures, tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.ConfigError, match=r"broken\.png must be"):
        predict.load_predictor(published.uri).predict_files([pictures[0], path])


def test_a_folder_that_is_no_saved_model_of_ours_is_named(tmp_path):
    import tensorflow as tf  # noqa: PLC0415

    foreign = tmp_path / "foreign"
    tf.saved_model.save(tf.Module(), str(foreign))
    with pytest.raises(errors.DataCorruptError, match="must be a SavedModel with the signature serving_default"):
        predict.load_predictor(str(foreign))
    (tmp_path / "broken").mkdir()
    pathlib.Path(tmp_path, "broken", "saved_model.pb").write_bytes(b"x")
    with pytest.raises(errors.DataCorruptError, match="must be a SavedModel"):
        predict.load_predictor(str(tmp_path / "broken"))
