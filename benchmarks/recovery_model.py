"""mobilenet_v2 behind the gate of the chaos tests, where a rank can be made to block in Python, as a user's layer may.

A job names this module in `spec.model.module`.
"""

import keras

from imagetrain_chaos import chaos_model
from imagetrain_trainer.models import mobilenet_v2, registry


@registry.register("gated_mobilenet_v2", smallest_side_pixels=mobilenet_v2.SMALLEST_SIDE_PIXELS)
def build_gated(images: keras.KerasTensor, context: registry.BuildContext) -> keras.KerasTensor:
    """Map images (batch, height, width, channels) in 0..1 to logits (batch, classes)."""
    return mobilenet_v2.build_mobilenet_v2(chaos_model.Gate()(images), context)
