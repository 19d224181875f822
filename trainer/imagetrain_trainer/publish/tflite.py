"""From the conversion SavedModel to the TFLite variants: TFLite's builtin operators only, pixel values 0..255 in.

float32, dynamic and float16 models take float32 pixel values; int8 takes uint8 pixels as they are, or int8 pixels less
128. All return probabilities (batch, classes); the full-integer model's are quantized in steps of 1/256.
"""

import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imagetrain_trainer import errors
from imagetrain_trainer.publish import layout, lite_runtime

_DARKEST, _BRIGHTEST = 0, 255
_MAX_CAUSE_CHARACTERS = 300
# Scale and zero point that pass pixels 0..255 unchanged: real = scale * (quantized - zero point).
_PIXEL_QUANTIZATION = {"uint8": (1.0, 0), "int8": (1.0, -128)}
_FLOAT_TYPES = frozenset({"float16", "float32", "float64"})


def convert(
    model_format: str,
    saved_model: pathlib.Path,
    calibration_images: npt.NDArray[np.uint8],
    int8_input_type: str = "uint8",
) -> bytes:
    """Convert the SavedModel written by `export.export_for_conversion` and check what came out.

    Args:
        model_format: one of the tflite formats.
        saved_model: its folder.
        calibration_images: (n, height, width, channels), spread over the classes; they set the ranges of tflite_int8.
        int8_input_type: type of the input and output of tflite_int8, uint8 or int8.

    Raises:
        ConfigError: the network has an operator that TFLite's builtins lack, or that has no integer form.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if model_format == layout.TFLITE_INT8:
        _ask_for_int8(converter, calibration_images, int8_input_type)
    elif model_format != layout.TFLITE_FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if model_format == layout.TFLITE_FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
    try:
        content: bytes = converter.convert()
    except Exception as error:  # the converter raises its own kinds, RuntimeError and ValueError alike
        cause = " ".join(str(error).split())[:_MAX_CAUSE_CHARACTERS]
        raise errors.ConfigError(
            f"spec.output.formats must be what the architecture can be converted to, got {model_format!r}: {cause}. "
            "Leave the format out, or use layers that TFLite has."
        ) from error
    return content


def check(model_format: str, path: pathlib.Path) -> lite_runtime.LiteRunner:
    """Load a converted model as its users will, and check its types; returns the runner (batch of one, one thread).

    Loading proves the operators: LiteRT has TFLite's builtins and no TensorFlow ones.

    Raises:
        DataCorruptError: LiteRT cannot run it.
        ConfigError: tflite_int8 still computes in floating point, or does not take pixels as they are.
    """
    runner = lite_runtime.LiteRunner(path)
    if model_format == layout.TFLITE_INT8:
        floats = runner.tensor_types() & _FLOAT_TYPES
        if floats:
            raise errors.ConfigError(
                f"tflite_int8 must hold integers only, got {', '.join(sorted(floats))} tensors. Leave the format out "
                "of spec.output.formats, or use layers that have an integer form."
            )
        expected = _PIXEL_QUANTIZATION[runner.input_type]
        if not np.allclose(runner.input_quantization, expected, atol=1e-6):
            raise errors.ConfigError(
                f"tflite_int8 must take pixels with scale and zero point {expected}, got {runner.input_quantization}. "
                "Let the network start from its images as they are."
            )
    return runner


def _ask_for_int8(
    converter: tf.lite.TFLiteConverter, calibration_images: npt.NDArray[np.uint8], input_type: str
) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = representative_dataset(calibration_images)
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(input_type)


def representative_dataset(
    images: npt.NDArray[np.uint8],
) -> Callable[[], Iterator[list[npt.NDArray[np.float32]]]]:
    """Return what the converter calls for samples: each image as float32 pixel values (1, height, width, channels).

    One corner of the first image spans 0..255. The input's range is then exactly that, and its quantization the
    identity on pixels, whatever the images hold.
    """
    spanning = images[:1].copy()
    spanning[0, 0, 0, :] = _DARKEST
    spanning[0, -1, -1, :] = _BRIGHTEST
    samples = np.concatenate([spanning, images[1:]])

    def generate() -> Iterator[list[npt.NDArray[np.float32]]]:
        for image in samples:
            yield [image[np.newaxis].astype(np.float32)]

    return generate
