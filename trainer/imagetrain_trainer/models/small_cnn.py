"""A convolutional net for small images, from 8 to 64 pixels: digits, Fashion-MNIST, icons."""

from typing import Annotated

import keras

from imagetrain_api import schema
from imagetrain_trainer.models import registry

SMALLEST_SIDE_PIXELS = 8
BATCH_NORM_MOMENTUM = 0.9  # a small data set has few steps in an epoch: 0.99 would still hold the initial statistics


@registry.register("small_cnn", smallest_side_pixels=SMALLEST_SIDE_PIXELS)
def build_small_cnn(
    images: keras.KerasTensor,
    context: registry.BuildContext,
    *,
    width: Annotated[int, schema.Setting(doc="Channels of the first stage.", minimum=8, maximum=256)] = 32,
    dropout: Annotated[
        float, schema.Setting(doc="Share of features dropped before the classifier.", minimum=0, exclusive_maximum=1)
    ] = 0.3,
) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    features = _convolve(images, context, width, strides=1)
    for stage in range(3):
        if stage:
            features = keras.layers.MaxPooling2D(2, padding="same")(features)
        features = _convolve(features, context, width << stage, strides=1)
        features = _convolve(features, context, width << stage, strides=1)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    return context.classifier(keras.layers.Dropout(dropout)(pooled))


def _convolve(
    features: keras.KerasTensor, context: registry.BuildContext, filters: int, *, strides: int
) -> keras.KerasTensor:
    convolved = keras.layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(features)
    normalized = context.batch_normalization(momentum=BATCH_NORM_MOMENTUM)(convolved)
    return keras.layers.ReLU()(normalized)
