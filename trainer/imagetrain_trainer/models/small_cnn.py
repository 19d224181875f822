"""A convolutional net for small images, from 8 to 64 pixels: digits, Fashion-MNIST, icons.

Every layer is one that LiteRT runs as an int8 kernel of XNNPACK: 3x3 convolutions with BatchNormalization folded into
them, maximum pooling and one matrix. Widths are multiples of 16, so int8 vectors are full.
"""

import math
from typing import Annotated

import keras

from imagetrain_api import rules
from imagetrain_trainer.models import registry

SMALLEST_SIDE_PIXELS = 8
BATCH_NORM_MOMENTUM = 0.9  # a small data set has few steps in an epoch: 0.99 would still hold the initial statistics
FIRST_STAGE_PIXELS = 16  # the stem halves the image until it is no larger; see docs/models.md for what that costs


@registry.register("small_cnn", smallest_side_pixels=SMALLEST_SIDE_PIXELS)
def build_small_cnn(
    images: keras.KerasTensor,
    context: registry.BuildContext,
    *,
    width: Annotated[
        int, rules.Setting(doc="Channels of the stem; the stages have twice and four times as many.", minimum=8)
    ] = 32,
    dropout: Annotated[
        float, rules.Setting(doc="Share of features dropped before the classifier.", minimum=0, exclusive_maximum=1)
    ] = 0.3,
) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    features = _convolve(images, context, width)
    for _ in range(count_stem_halvings(min(context.input_shape[:2]))):
        features = _halve(features)
    for filters in (2 * width, 4 * width):
        features = _convolve(_convolve(features, context, filters), context, filters)
        features = _halve(features)
    flat = keras.ops.reshape(
        features, (-1, math.prod(features.shape[1:]))
    )  # Flatten would export four shape operations
    return context.classifier(keras.layers.Dropout(dropout)(flat))


def count_stem_halvings(side_pixels: int) -> int:
    """Return how often the stem pools: not at all up to 16 pixels, once up to 32, twice up to 64."""
    return max(0, math.ceil(math.log2(side_pixels / FIRST_STAGE_PIXELS)))


def _convolve(features: keras.KerasTensor, context: registry.BuildContext, filters: int) -> keras.KerasTensor:
    convolved = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(features)
    return keras.layers.ReLU()(context.batch_normalization(momentum=BATCH_NORM_MOMENTUM)(convolved))


def _halve(features: keras.KerasTensor) -> keras.KerasTensor:
    return keras.layers.MaxPooling2D(2, padding="same")(features)
