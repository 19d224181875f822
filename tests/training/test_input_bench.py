import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from imagetrain_api import training_settings
from imagetrain_trainer import errors
from imagetrain_trainer.data import bench, dataset, pack, reader
from imagetrain_trainer.storage import store
from imagetrain_trainer.training import input_bench


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Forty JPEGs of 40 x 32 pixels, packed."""
    folder = tmp_path_factory.mktemp("bench")
    random = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / "tree" / name).mkdir(parents=True)
        for number in range(20):
            out = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (40, 32, 3), np.uint8)).save(out, "JPEG")
            (folder / "tree" / name / f"{number}.jpg").write_bytes(out.getvalue())
    pack.pack(str(folder / "tree"), str(folder / "set"))
    return store.open_store(str(folder / "set"))


@pytest.fixture
def sample(objects, tmp_path):
    return bench.take_sample(objects, "train", tmp_path)


def test_the_input_is_that_of_the_images_or_the_usual_one(objects):
    image = dataset.load_dataset(objects).image
    assert input_bench.build_spec(image, 8).model.input_shape == (40, 32, 3)
    assert input_bench.build_spec(image, 8, (64, 48)).model.input_shape == (64, 48, 3)
    unequal = dataclasses.replace(image, height=None, width=None)
    assert input_bench.build_spec(unequal, 8).model.input_shape == (224, 224, 3)


def test_stages_with_tensorflow_are_measured(objects, sample):
    spec = input_bench.build_spec(dataset.load_dataset(objects).image, 8)
    assert [stage.name for stage in input_bench.measure_pixels(sample, spec, 0.05)] == ["batch", "decode"]
    augmented = dataclasses.replace(
        spec,
        training=dataclasses.replace(
            spec.training, augmentation=training_settings.AugmentationSettings(rotation_degrees=20)
        ),
    )
    stages = input_bench.measure_pixels(sample, augmented, 0.05)
    assert [stage.name for stage in stages] == ["batch", "decode", "augment"]
    assert all(stage.images > 0 for stage in stages)
    assert stages[1].cpu_seconds > 0


def test_all_stages_run_together(objects):
    spec = input_bench.build_spec(dataset.load_dataset(objects).image, 8)
    stage = input_bench.measure_whole(objects, "train", spec, reader.ReaderOptions(), 0.05)
    assert stage.images_per_second > 0


def test_images_that_do_not_fit_the_job_are_an_error(sample, objects):
    spec = input_bench.build_spec(dataset.load_dataset(objects).image, 8)
    gray = dataclasses.replace(spec, model=dataclasses.replace(spec.model, input_shape=(40, 32, 1)))
    with pytest.raises(errors.ConfigError, match=r"spec\.model\.inputShape must have 3 channels"):
        input_bench.measure_pixels(sample, gray, 0.05)
