"""From a trained model to SavedModels: the published one with its two signatures, and the one that TFLite converts.

Every exported graph takes pixel values in 0..255 and returns probabilities. Weights are read from the trained model
once; the exported model is a float32 one of its own, outside any distribution strategy and mixed precision.
"""

import pathlib
import tempfile
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from imagetrain_api import training_settings
from imagetrain_trainer.data import pipeline
from imagetrain_trainer.models import registry
from imagetrain_trainer.publish import labels, layout

SIGNATURE_IMAGES = "serving_default"
SIGNATURE_ENCODED = "serve_encoded"
IMAGES = "images"
ENCODED = "encoded"
PROBABILITIES = "probabilities"
CLASS_IDS = "class_ids"


def rebuild_in_float32(trained: keras.Model, settings: training_settings.ModelSettings, classes: int) -> keras.Model:
    """Build the manifest's architecture anew with float32 arithmetic and the trained weights.

    A model trained under MultiWorkerMirroredStrategy or in bfloat16 is saved with variables and casts that converters
    do not take. Its weights are float32 in any precision, so this loses nothing.

    Args:
        trained: a model made by `registry.build_model` from the same settings; only read.
        settings: `spec.model`.
        classes: length of the logits.
    """
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        model = registry.build_model(
            settings.architecture, input_shape=settings.input_shape, classes=classes, options=settings.options
        )
    finally:
        keras.config.set_dtype_policy(policy)
    model.set_weights(trained.get_weights())
    return model


def export_saved_model(model: keras.Model, classes: Sequence[str], folder: pathlib.Path) -> None:
    """Write the SavedModel that is published.

    Signatures, both returning `probabilities` (batch, classes) float32 and `class_ids` (batch,) int32:

    - `serving_default`: `images` (batch, height, width, channels) uint8, already of the model's size;
    - `serve_encoded`: `encoded` (batch,) string, PNG or JPEG files of any size.

    Class names lie in `assets/labels.txt`, one a line; the loaded object's `labels.asset_path` says where that is.

    Args:
        model: images (batch, height, width, channels) in 0..255 to logits (batch, classes).
        classes: names in the order of the logits.
        folder: where; must not exist.
    """
    module = _build_module(model)
    module.serve_images = _build_image_function(model)
    module.serve_encoded = _build_encoded_function(model)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        asset = pathlib.Path(scratch, layout.LABELS)
        asset.write_bytes(labels.format_labels(classes).encode())
        module.labels = tf.saved_model.Asset(str(asset))
        signatures = {SIGNATURE_IMAGES: module.serve_images, SIGNATURE_ENCODED: module.serve_encoded}
        tf.saved_model.save(module, str(folder), signatures=signatures)


def export_for_conversion(model: keras.Model, folder: pathlib.Path) -> None:
    """Write the SavedModel that TFLite converts: `images` (batch, height, width, channels) float32 to `probabilities`.

    It has one signature, one output and no string operator, so that the converter sees the network alone.

    Args:
        model: images (batch, height, width, channels) in 0..255 to logits (batch, classes).
        folder: where; must not exist.
    """
    module = _build_module(model)

    def infer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PROBABILITIES: tf.nn.softmax(model(images, training=False))}

    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=IMAGES)
    module.infer = tf.function(infer, input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE_IMAGES: module.infer})


def _build_module(model: keras.Model) -> tf.Module:
    # The raw weights and not the Keras model: its layers would be saved with functions and metadata of their own, and
    # `model.variables` holds Dropout's random state besides, new in each build.
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    return module


def _build_image_function(model: keras.Model) -> Callable[..., tf.Tensor]:
    def serve_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return _classify(model, images)

    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name=IMAGES)
    function: Callable[..., tf.Tensor] = tf.function(serve_images, input_signature=[spec])
    return function


def _build_encoded_function(model: keras.Model) -> Callable[..., tf.Tensor]:
    height, width, channels = model.input_shape[1:]

    def decode(payload: tf.Tensor) -> tf.Tensor:
        return pipeline.decode_image(payload, channels, height, width)

    def serve_encoded(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = tf.TensorSpec((height, width, channels), tf.uint8)
        images = tf.map_fn(decode, encoded, fn_output_signature=spec)
        return _classify(model, images)  # images: (batch, height, width, channels) uint8

    strings = tf.TensorSpec((None,), tf.string, name=ENCODED)
    function: Callable[..., tf.Tensor] = tf.function(serve_encoded, input_signature=[strings])
    return function


def _classify(model: keras.Model, images: tf.Tensor) -> dict[str, tf.Tensor]:
    probabilities = tf.nn.softmax(model(tf.cast(images, tf.float32), training=False))
    return {PROBABILITIES: probabilities, CLASS_IDS: tf.argmax(probabilities, axis=-1, output_type=tf.int32)}
