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
    transforms = augmentation.draw_transforms(settings, seed=1, epoch=epoch, positions=ids, height=12, width=10)
    return augmentation.apply_transforms(tf.constant(IMAGES[ids]), tf.constant(transforms), settings.fill).numpy()


def test_without_changes_every_pixel_stays() -> None:
    settings = ts.AugmentationSettings()
    assert not augmentation.needs_transforms(settings)
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
    transforms = augmentation.draw_transforms(settings, seed=0, epoch=0, positions=np.arange(5000), height=40, width=20)
    assert np.abs(transforms[:, 2]).max() <= 0.25 * 20
    assert np.abs(transforms[:, 5]).max() <= 0.25 * 40
    assert np.abs(transforms[:, 2]).max() > 0.24 * 20


def test_one_change_never_moves_another() -> None:
    shift_alone = ts.AugmentationSettings(shift=0.25)
    with_zoom = ts.AugmentationSettings(shift=0.25, flip="horizontal")

    def shifts(settings: ts.AugmentationSettings) -> npt.NDArray[np.float32]:
        return augmentation.draw_transforms(settings, seed=0, epoch=0, positions=IDS, height=40, width=20)[:, 5]

    np.testing.assert_array_equal(shifts(shift_alone), shifts(with_zoom))


def test_rotation_turns_about_the_centre() -> None:
    image = np.zeros((1, 11, 11, 1), np.uint8)
    image[0, 5, 5] = 255
    settings = ts.AugmentationSettings(rotation_degrees=180)
    transforms = augmentation.draw_transforms(settings, seed=5, epoch=0, positions=np.arange(1), height=11, width=11)
    assert (
        augmentation.apply_transforms(tf.constant(image), tf.constant(transforms), "constant").numpy()[0, 5, 5] == 255
    )


def windows(
    crop: ts.CropSettings, ids: npt.NDArray[np.int64], height: int = 375, width: int = 500, epoch: int = 0
) -> npt.NDArray[np.int32]:
    heights, widths = np.full(len(ids), height, np.int32), np.full(len(ids), width, np.int32)
    return augmentation.draw_windows(crop, seed=1, epoch=epoch, positions=ids, heights=heights, widths=widths)


@pytest.mark.parametrize(
    ("height", "width", "crop"),
    [
        (375, 500, ts.CropSettings()),
        (1, 1, ts.CropSettings()),
        (3, 2000, ts.CropSettings()),  # no window of that shape has the smallest area
        (2000, 3, ts.CropSettings(min_area=0.9)),
        (8, 8, ts.CropSettings(min_area=0.01)),
        (224, 224, ts.CropSettings(min_area=1, max_area=1, min_aspect_ratio=1, max_aspect_ratio=1)),
        (100, 300, ts.CropSettings(min_aspect_ratio=10, max_aspect_ratio=10)),
    ],
)
def test_windows_lie_within_the_image(height: int, width: int, crop: ts.CropSettings) -> None:
    top, left, tall, wide = windows(crop, np.arange(5000), height, width).T
    assert min(top.min(), left.min()) >= 0
    assert min(tall.min(), wide.min()) >= 1
    assert (top + tall).max() <= height
    assert (left + wide).max() <= width


def test_windows_keep_their_limits_but_for_rounding() -> None:
    crop = ts.CropSettings(min_area=0.2, max_area=0.6, min_aspect_ratio=0.8, max_aspect_ratio=1.25)
    _, _, tall, wide = windows(crop, np.arange(20000)).T
    areas, ratios = tall * wide / (375 * 500), wide / tall
    assert (areas.min(), areas.max()) == pytest.approx((0.2, 0.6), abs=0.01)
    assert (ratios.min(), ratios.max()) == pytest.approx((0.8, 1.25), abs=0.01)  # a pixel of about 160


def test_windows_are_spread_as_those_of_tensorflow() -> None:
    tf.random.set_seed(0)

    def draw(_: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            [375, 500, 3],
            tf.zeros([0, 0, 4]),
            min_object_covered=0.2,
            area_range=(0.2, 1.0),
            aspect_ratio_range=(0.75, 1.333),
            max_attempts=100,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    count = 20000
    theirs = np.stack(list(tf.data.Dataset.range(count).map(draw).as_numpy_iterator()))
    ours = windows(ts.CropSettings(min_area=0.2), np.arange(count))
    for column in range(4):
        # Largest distance between the two distribution functions; 0.02 is that of the same distribution once in 2000.
        both = np.concatenate([ours[:, column], theirs[:, column]])
        shares = [np.searchsorted(np.sort(w[:, column]), both, side="right") / count for w in (ours, theirs)]
        assert np.abs(shares[0] - shares[1]).max() < 0.02


@pytest.mark.parametrize("world", [2, 3, 5])
def test_windows_do_not_depend_on_how_a_batch_is_cut(world: int) -> None:
    whole = windows(ts.CropSettings(), IDS)
    parts = [
        windows(ts.CropSettings(), IDS[len(IDS) * rank // world : len(IDS) * (rank + 1) // world])
        for rank in range(world)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (windows(ts.CropSettings(), IDS, epoch=1) != whole).any()


def test_mirrored_images_are_those_that_the_transform_mirrors() -> None:
    transforms = augmentation.draw_transforms(ALL, seed=4, epoch=2, positions=IDS, height=12, width=10)
    flips = augmentation.draw_flips(ALL, seed=4, epoch=2, positions=IDS)
    determinants = transforms[:, 0] * transforms[:, 4] - transforms[:, 1] * transforms[:, 3]
    np.testing.assert_array_equal(determinants < 0, flips[:, 0] != flips[:, 1])


def test_empty_batch_stays_empty() -> None:
    assert applied(ALL, IDS[:0]).shape == (0, 12, 10, 3)
