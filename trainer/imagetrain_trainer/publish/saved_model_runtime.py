"""Running a published SavedModel through its image signature: uint8 pixels in, float probabilities out."""

import pathlib

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imagetrain_trainer import errors
from imagetrain_trainer.publish import export, labels

_MAX_CAUSE_CHARACTERS = 300


class SavedModelRunner:
    """One model with batches of any size, in this process's TensorFlow and with its threads.

    Attributes:
        input_shape: height, width, channels.
        classes: length of the probabilities.
        class_names: names stored in the model.
        input_type: type of the input tensor.
        output_type: type of the output tensor.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        """Load a model.

        Raises:
            DataCorruptError: it is no SavedModel, or has no image signature of imagetrain.
        """
        try:
            self._loaded = tf.saved_model.load(str(folder))
            self._signature = self._loaded.signatures[export.SIGNATURE_IMAGES]
            spec = self._signature.structured_input_signature[1][export.IMAGES]
            asset = pathlib.Path(self._loaded.labels.asset_path.numpy().decode())
            self.class_names = labels.read_labels(asset)
        except (OSError, KeyError, ValueError, AttributeError, tf.errors.OpError) as error:
            cause = " ".join(str(error).split())[:_MAX_CAUSE_CHARACTERS]
            raise errors.DataCorruptError(
                f"{folder} must be a SavedModel with the signature {export.SIGNATURE_IMAGES}({export.IMAGES}): "
                f"{cause}. Download or publish it again."
            ) from error
        height, width, channels = spec.shape[1:]
        self.input_shape: tuple[int, int, int] = (int(height), int(width), int(channels))
        self.classes = int(self._signature.structured_outputs[export.PROBABILITIES].shape[-1])
        self.input_type = str(spec.dtype.name)
        self.output_type = str(self._signature.structured_outputs[export.PROBABILITIES].dtype.name)
        self._next = tf.zeros((1, *self.input_shape), tf.uint8)

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Classify images (n, height, width, channels) of any n; returns (n, classes) float32."""
        outputs = self._signature(images=tf.constant(images))
        result: npt.NDArray[np.float32] = outputs[export.PROBABILITIES].numpy()
        return result

    def set_images(self, images: npt.NDArray[np.uint8]) -> None:
        """Give the next invocation its images (batch, height, width, channels)."""
        self._next = tf.constant(images)

    def invoke(self) -> None:
        """Run the network once, to the end."""
        self._signature(images=self._next)[export.PROBABILITIES].numpy()
