import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter

from imagetrain_trainer.models import registry

# What XNNPACK runs on integers: a new name here means a slower or a partly floating-point model.
INTEGER_OPERATIONS = {
    "ADD",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "MAX_POOL_2D",
    "MEAN",
    "QUANTIZE",
    "RESHAPE",
}


def convert_to_int8(model, folder):
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    module.infer = tf.function(lambda images: model(images, training=False), input_signature=[spec])
    tf.saved_model.save(module, str(folder), signatures=module.infer)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    samples = np.random.default_rng(0).integers(0, 256, (4, 1, *model.input_shape[1:])).astype(np.float32)
    converter.representative_dataset = lambda: ([sample] for sample in samples)
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return interpreter.Interpreter(model_content=converter.convert(), num_threads=1)


@pytest.mark.parametrize(
    ("architecture", "input_shape", "options", "convolutions"),
    [
        ("small_cnn", (28, 28, 1), {"width": 8}, 5),
        ("mobilenet_v2", (12, 12, 3), {"alpha": 0.1}, 35),
    ],
)
def test_int8_holds_integer_operations_alone_and_one_for_each_convolution(
    tmp_path, architecture, input_shape, options, convolutions
):
    model = registry.build_model(architecture, input_shape=input_shape, classes=4, options=options)
    operations = [operation["op_name"] for operation in convert_to_int8(model, tmp_path)._get_ops_details()]
    assert set(operations) - {"DELEGATE"} <= INTEGER_OPERATIONS
    assert operations.count("CONV_2D") == convolutions
    assert operations.count("QUANTIZE") == 2  # in and out: rescaling and BatchNormalization are folded away
