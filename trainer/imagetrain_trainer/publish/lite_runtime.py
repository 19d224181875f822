"""Running a .tflite file with LiteRT: uint8 pixels in, float probabilities out, whatever the model's own types are."""

import pathlib
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import interpreter as litert

from imagetrain_trainer import errors

_MAX_CAUSE_CHARACTERS = 300


class LiteRunner:
    """One model with a fixed batch size. Not thread-safe."""

    def __init__(self, path: pathlib.Path, *, batch_size: int = 1, threads: int = 1) -> None:
        """Load a model.

        Args:
            path: the .tflite file, with one input (batch, height, width, channels) and one output (batch, classes).
            batch_size: images of one invocation.
            threads: CPU threads of one invocation.

        Raises:
            DataCorruptError: it is no TFLite model, or one of operators that LiteRT does not have.
        """
        try:
            self._interpreter = litert.Interpreter(model_path=str(path), num_threads=threads)
            self._prepare(batch_size)
        except (ValueError, RuntimeError) as error:
            cause = " ".join(str(error).split())[:_MAX_CAUSE_CHARACTERS]
            raise errors.DataCorruptError(
                f"{path} must be a TFLite image classifier of builtin operators: {cause}. Download or publish it again."
            ) from error
        self._batch_size = batch_size

    def _prepare(self, batch_size: int) -> None:
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0]["shape"]) != 4:
            raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs")
        shape = (batch_size, *(int(size) for size in inputs[0]["shape"][1:]))
        self._interpreter.resize_tensor_input(inputs[0]["index"], shape)
        self._interpreter.allocate_tensors()
        self._input: dict[str, Any] = self._interpreter.get_input_details()[0]
        self._output: dict[str, Any] = self._interpreter.get_output_details()[0]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        height, width, channels = (int(size) for size in self._input["shape"][1:])
        return height, width, channels

    @property
    def classes(self) -> int:
        """Length of the probabilities."""
        return int(self._output["shape"][-1])

    @property
    def input_type(self) -> str:
        """Type of the input tensor."""
        return str(np.dtype(self._input["dtype"]).name)

    @property
    def output_type(self) -> str:
        """Type of the output tensor."""
        return str(np.dtype(self._output["dtype"]).name)

    @property
    def input_quantization(self) -> tuple[float, int]:
        """Scale and zero point of the input; (0.0, 0) where it is not quantized."""
        scale, zero_point = self._input["quantization"]
        return float(scale), int(zero_point)

    def tensor_types(self) -> set[str]:
        """Return the types of all tensors of the model."""
        return {np.dtype(each["dtype"]).name for each in self._interpreter.get_tensor_details()}

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Classify images (n, height, width, channels) of any n; returns (n, classes) float32."""
        chunks = [
            self._classify(images[start : start + self._batch_size])
            for start in range(0, len(images), self._batch_size)
        ]
        return np.concatenate(chunks) if chunks else np.zeros((0, self.classes), np.float32)

    def _classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        missing = self._batch_size - len(images)
        padded = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images
        self.set_images(padded)
        self.invoke()
        raw: npt.NDArray[Any] = self._interpreter.get_tensor(self._output["index"])
        return self._dequantize(raw[: len(images)])

    def set_images(self, images: npt.NDArray[np.uint8]) -> None:
        """Give the next invocation its images (batch size, height, width, channels)."""
        self._interpreter.set_tensor(self._input["index"], self._quantize(images))

    def invoke(self) -> None:
        """Run the network once."""
        self._interpreter.invoke()

    def _quantize(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        dtype = np.dtype(self._input["dtype"])
        scale, zero_point = self.input_quantization
        if dtype.kind == "f" or scale == 0:
            return images.astype(dtype)
        if (scale, zero_point, dtype) == (1.0, 0, np.dtype(np.uint8)):
            return images
        limits = np.iinfo(dtype)
        quantized: npt.NDArray[Any] = np.clip(np.rint(images / scale) + zero_point, limits.min, limits.max)
        return quantized.astype(dtype)

    def _dequantize(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        scale, zero_point = self._output["quantization"]
        if scale == 0:
            return raw.astype(np.float32)
        probabilities: npt.NDArray[np.float32] = (raw.astype(np.float32) - zero_point) * np.float32(scale)
        return probabilities
