"""What goes along with each training batch: the step's global size, and how its images are changed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy import typing as npt

from imagetrain_api import job
from imagetrain_trainer.data import reader, sampler
from imagetrain_trainer.training import augmentation


class BatchChanges:
    """Draws for one batch after the other, in the order of the turns; nothing is drawn that the job does not ask for.

    Attributes:
        signature: shapes and types of what `draw` gives.
        has_transforms: whether `apply` has anything to do.
    """

    def __init__(
        self, spec: job.JobSpec, order: sampler.Sampler, turns: Iterator[tuple[int, int]], *, world_size: int
    ) -> None:
        """Prepare.

        Args:
            spec: the job.
            order: of the training split.
            turns: (step, replica) of each batch to come.
            world_size: number of all replicas.
        """
        self._settings = spec.training.augmentation
        self._seed = spec.training.seed
        self._height, self._width, _ = spec.model.input_shape
        self._order = order
        self._turns = turns
        self._world_size = world_size
        self.has_transforms = augmentation.needs_transforms(self._settings)
        axes = {"none": "", "vertical": "y", "horizontal": "x", "both": "yx"}[self._settings.flip]
        self._flip_axes = "" if self.has_transforms else axes
        self.signature = self._build_signature()

    def draw(self, batch: reader.RecordBatch) -> dict[str, npt.NDArray[Any]]:
        """Return global_size () float32, samples of the step over all replicas, and windows, flips, transforms."""
        step, replica = next(self._turns)
        epoch, _ = self._order.position(step)
        settings, seed = self._settings, self._seed
        positions = self._order.worker_positions(step, replica, self._world_size)
        drawn: dict[str, npt.NDArray[Any]] = {
            "global_size": np.asarray(len(self._order.batch_positions(step)), np.float32)
        }
        if settings.crop is not None:
            drawn["windows"] = augmentation.draw_windows(
                settings.crop, seed=seed, epoch=epoch, positions=positions, heights=batch.heights, widths=batch.widths
            )
        if self._flip_axes:
            flips = augmentation.draw_flips(settings, seed=seed, epoch=epoch, positions=positions)
            drawn |= {f"flips_{axis}": flips[:, "yx".index(axis)] for axis in self._flip_axes}
        if self.has_transforms:
            drawn["transforms"] = augmentation.draw_transforms(
                settings, seed=seed, epoch=epoch, positions=positions, height=self._height, width=self._width
            )
        return drawn

    def apply(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Change the images of a decoded batch by its transforms, which do not come out."""
        images = augmentation.apply_transforms(batch["images"], batch["transforms"], self._settings.fill)
        return {**{key: tensor for key, tensor in batch.items() if key != "transforms"}, "images": images}

    def _build_signature(self) -> dict[str, tf.TensorSpec]:
        optional = {
            "windows": (self._settings.crop is not None, tf.TensorSpec((None, 4), tf.int32)),
            "flips_y": ("y" in self._flip_axes, tf.TensorSpec((None,), tf.bool)),
            "flips_x": ("x" in self._flip_axes, tf.TensorSpec((None,), tf.bool)),
            "transforms": (self.has_transforms, tf.TensorSpec((None, 8), tf.float32)),
        }
        asked = {key: spec for key, (is_asked, spec) in optional.items() if is_asked}
        return {"global_size": tf.TensorSpec((), tf.float32), **asked}
