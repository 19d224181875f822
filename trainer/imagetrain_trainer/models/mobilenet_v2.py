"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381), built here so that BatchNormalization can span the workers.

At output stride 32 the layers are those of keras.applications.MobileNetV2. Its explicit zero padding before each
strided convolution is left to padding "same", which pads the same pixels and costs no extra operation once converted.
"""

import dataclasses
import math
from typing import Annotated

import keras

from imagetrain_api import rules
from imagetrain_trainer import errors
from imagetrain_trainer.models import registry

SMALLEST_SIDE_PIXELS = 12
SMALLEST_LAST_MAP_PIXELS = 3  # what the paper's stride of 32 leaves of 96 pixels
BATCH_NORM_MOMENTUM = 0.99  # the paper's 0.999 needs thousands of steps before the first validation means anything
BATCH_NORM_EPSILON = 1e-3
FILTER_MULTIPLE = 8
STEM_FILTERS = 32
HEAD_FILTERS = 1280
OUTPUT_STRIDES = (4, 8, 16, 32)


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """One row of the paper's table 2."""

    expansion: int
    filters: int
    repeats: int
    stride: int


STEM_STRIDE = 2
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)


@registry.register("mobilenet_v2", smallest_side_pixels=SMALLEST_SIDE_PIXELS)
def build_mobilenet_v2(
    images: keras.KerasTensor,
    context: registry.BuildContext,
    *,
    alpha: Annotated[float, rules.Setting(doc="Width multiplier of every layer.", minimum=0.1, maximum=2.0)] = 1.0,
    dropout: Annotated[
        float, rules.Setting(doc="Share of features dropped before the classifier.", minimum=0, exclusive_maximum=1)
    ] = 0.2,
    output_stride: Annotated[
        int | None,
        rules.Setting(doc="Image side over the side of the last map: 4, 8, 16 or 32; chosen by image size if absent."),
    ] = None,
) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes).

    Raises:
        ConfigError: `output_stride` is none of the four.
    """
    stem_stride, *strides = plan_strides(output_stride or choose_output_stride(min(context.input_shape[:2])))
    features = _convolve(images, context, scale_filters(STEM_FILTERS, alpha), kernel_size=3, strides=stem_stride)
    for stage, stride in zip(STAGES, strides, strict=True):
        for repeat in range(stage.repeats):
            filters = scale_filters(stage.filters, alpha)
            features = _invert_residual(features, context, filters, stage.expansion, stride if repeat == 0 else 1)
    features = _convolve(features, context, scale_filters(HEAD_FILTERS, max(alpha, 1.0)), kernel_size=1)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return context.classifier(keras.layers.Dropout(dropout)(pooled))


def choose_output_stride(side_pixels: int) -> int:
    """Return the largest stride that leaves a last map of three pixels: 32 from 96 px on, 8 at 28 px."""
    fitting = [stride for stride in OUTPUT_STRIDES if side_pixels >= stride * SMALLEST_LAST_MAP_PIXELS]
    return fitting[-1]


def plan_strides(output_stride: int) -> tuple[int, ...]:
    """Return the strides of the stem and of each stage; a smaller output stride drops the earliest ones.

    Raises:
        ConfigError: the stride is none of `OUTPUT_STRIDES`.
    """
    if output_stride not in OUTPUT_STRIDES:
        path = f"{registry.OPTIONS_PATH}.outputStride"
        raise errors.ConfigError(str(rules.FieldError(path, f"be one of {OUTPUT_STRIDES}", output_stride)))
    strides = [STEM_STRIDE, *(stage.stride for stage in STAGES)]
    while math.prod(strides) > output_stride:
        strides[strides.index(2)] = 1
    return tuple(strides)


def scale_filters(filters: int, alpha: float) -> int:
    """Return `alpha * filters` as the nearest multiple of 8 that loses no more than a tenth."""
    wanted = filters * alpha
    rounded = max(FILTER_MULTIPLE, int(wanted + FILTER_MULTIPLE / 2) // FILTER_MULTIPLE * FILTER_MULTIPLE)
    return rounded + FILTER_MULTIPLE if rounded < 0.9 * wanted else rounded


def _invert_residual(
    features: keras.KerasTensor, context: registry.BuildContext, filters: int, expansion: int, stride: int
) -> keras.KerasTensor:
    inputs = int(features.shape[-1])
    hidden = _convolve(features, context, inputs * expansion, kernel_size=1) if expansion > 1 else features
    depthwise = keras.layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(hidden)
    activated = keras.layers.ReLU(6.0)(_normalize(depthwise, context))
    projected = _normalize(keras.layers.Conv2D(filters, 1, padding="same", use_bias=False)(activated), context)
    return keras.layers.Add()([features, projected]) if stride == 1 and inputs == filters else projected


def _convolve(
    features: keras.KerasTensor, context: registry.BuildContext, filters: int, *, kernel_size: int, strides: int = 1
) -> keras.KerasTensor:
    layer = keras.layers.Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False)
    return keras.layers.ReLU(6.0)(_normalize(layer(features), context))


def _normalize(features: keras.KerasTensor, context: registry.BuildContext) -> keras.KerasTensor:
    return context.batch_normalization(momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON)(features)
