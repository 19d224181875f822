"""Fixtures of publishing: stores of both kinds, and one tiny trained model for the whole session."""

import dataclasses
import pathlib
import secrets

import numpy as np
import pytest

import publish_cases
from imagetrain_api import job
from imagetrain_trainer.storage import store

SHAPE = (8, 8, 1)


@pytest.fixture(params=["s3", "file"])
def output(request, tmp_path):
    """Return an empty output store: a bucket of a real S3 server, or a folder."""
    if request.param == "file":
        return store.open_store(f"file://{tmp_path}/output/")
    bucket = request.getfixturevalue("s3_bucket")
    return store.open_store(f"s3://{bucket}/models/")


@pytest.fixture
def file_output(tmp_path):
    return store.open_store(f"file://{tmp_path}/output/")


@pytest.fixture
def files(tmp_path):
    return publish_cases.write_files(tmp_path / "files")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A trained model, its images (n, 8, 8, 1) uint8 and labels, its job, and all five formats of it on disk."""

    model: object
    images: np.ndarray
    labels: np.ndarray
    spec: job.JobSpec
    built: dict
    folder: pathlib.Path


@pytest.fixture(scope="session")
def tiny_images():
    """Return images of three classes: a bright left, middle or right part on noise, and their labels."""
    generator = np.random.default_rng(7)
    labels = np.arange(240, dtype=np.int32) % 3
    images = generator.integers(0, 90, (240, *SHAPE)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, label * 3 : label * 3 + 2] += 120
    return images, labels


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory):
    document = {
        "data": {"uri": "file:///data/"},
        "model": {"architecture": "small_cnn", "inputShape": list(SHAPE), "options": {"width": 8}},
        "output": {"uri": f"file://{tmp_path_factory.mktemp('output')}/", "int8": {"calibrationSamples": 20}},
    }
    manifest = {"apiVersion": "imagetrain.dev/v1alpha1", "kind": "ImageTrainingJob", "metadata": {"name": "tiny"}}
    return job.decode_job({**manifest, "spec": document}).spec


@pytest.fixture(scope="session")
def tiny(tiny_images, tiny_spec, tmp_path_factory):
    """Return a model trained for a few steps, with every format of it built once."""
    import keras  # noqa: PLC0415 - the pure tests here must not wait for TensorFlow

    from imagetrain_trainer import models  # noqa: F401, PLC0415
    from imagetrain_trainer.models import registry  # noqa: PLC0415
    from imagetrain_trainer.publish import build  # noqa: PLC0415

    images, labels = tiny_images
    keras.utils.set_random_seed(3)
    model = registry.build_model("small_cnn", input_shape=SHAPE, classes=3, options={"width": 8})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(images[:160].astype(np.float32), labels[:160], batch_size=16, epochs=4, verbose=0)
    folder = tmp_path_factory.mktemp("built")
    built = build.build_models(model, tiny_spec, publish_cases.CLASSES, images[:20], folder, lambda detail, share: None)
    return TinyModel(model=model, images=images, labels=labels, spec=tiny_spec, built=built, folder=folder)


@pytest.fixture
def run_id():
    return f"run-{secrets.token_hex(3)}"
