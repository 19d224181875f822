import numpy as np
import pytest
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import training_settings as ts
from imagetrain_trainer.training import augmentation

IDS = np.arange(64)
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 12, 10, 3)).astype(np.uint8)
ALL = ts.AugmentationSettings(flip="both", shift=0.2, rotation_degrees=30, zoom=0.2)


def applied(
    settings: ts.AugmentationSettings, ids: npt.NDArray[np.int64] = IDS, epoch: int = 0
) -> npt.NDArray[np.uint8]:
    transforms = augmentation.draw_transforms(settings, seed=1, epoch=epoch, record_ids=ids, height=12, width=10)
    return augmentation.apply_transforms(tf.constant(IMAGES[ids]), tf.constant(transforms), settings.fill).numpy()


def test_without_changes_every_pixel_stays() -> None:
    settings = ts.AugmentationSettings()
    assert augmentation.is_identity(settings)
    np.testing.assert_array_equal(applied(settings), IMAGES)


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", 2), ("vertical", 1)])
def test_flip_mirrors_about_half_of_the_images_exactly(flip: str, axis: int) -> None:
    changed = applied(ts.AugmentationSettings(flip=flip))
    mirrored = np.flip(IMAGES, axis)
    is_mirrored = (changed == mirrored).all(axis=(1, 2, 3))
    is_kept = (changed == IMAGES).all(axis=(1, 2, 3))
    assert (is_mirrored | is_kept).all()
    assert 16 < is_mirrored.sum() < 48


@pytest.mark.parametrize("world", [2, 3, 5])
def test_pixels_do_not_depend_on_how_a_batch_is_cut(world: int) -> None:
    whole = applied(ALL)
    parts = [applied(ALL, IDS[len(IDS) * rank // world : len(IDS) * (rank + 1) // world]) for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_each_epoch_draws_anew_and_the_same_epoch_draws_the_same() -> None:
    np.testing.assert_array_equal(applied(ALL, epoch=3), applied(ALL, epoch=3))
    assert (applied(ALL, epoch=3) != applied(ALL, epoch=4)).any()


def test_changes_stay_within_their_settings() -> None:
    settings = ts.AugmentationSettings(shift=0.25)
    transforms = augmentation.draw_transforms(
        settings, seed=0, epoch=0, record_ids=np.arange(5000), height=40, width=20
    )
    assert np.abs(transforms[:, 2]).max() <= 0.25 * 20
    assert np.abs(transforms[:, 5]).max() <= 0.25 * 40
    assert np.abs(transforms[:, 2]).max() > 0.24 * 20


def test_one_change_never_moves_another() -> None:
    shift_alone = ts.AugmentationSettings(shift=0.25)
    with_zoom = ts.AugmentationSettings(shift=0.25, flip="horizontal")

    def shifts(settings: ts.AugmentationSettings) -> npt.NDArray[np.float32]:
        return augmentation.draw_transforms(settings, seed=0, epoch=0, record_ids=IDS, height=40, width=20)[:, 5]

    np.testing.assert_array_equal(shifts(shift_alone), shifts(with_zoom))


def test_rotation_turns_about_the_centre() -> None:
    image = np.zeros((1, 11, 11, 1), np.uint8)
    image[0, 5, 5] = 255
    settings = ts.AugmentationSettings(rotation_degrees=180)
    transforms = augmentation.draw_transforms(settings, seed=5, epoch=0, record_ids=np.arange(1), height=11, width=11)
    assert (
        augmentation.apply_transforms(tf.constant(image), tf.constant(transforms), "constant").numpy()[0, 5, 5] == 255
    )


def test_empty_batch_stays_empty() -> None:
    assert applied(ALL, IDS[:0]).shape == (0, 12, 10, 3)
