import json
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from publish_cases import CLASSES

FRESH_PROCESS = textwrap.dedent(
    """
    import json, sys
    import numpy as np, tensorflow as tf
    loaded = tf.saved_model.load(sys.argv[1])
    images = np.load(sys.argv[2])
    plain = loaded.signatures["serving_default"](images=tf.constant(images))
    files = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    encoded = loaded.signatures["serve_encoded"](encoded=files)
    larger = tf.cast(tf.image.resize(images, (40, 24)), tf.uint8)
    jpeg = loaded.signatures["serve_encoded"](encoded=tf.constant([tf.io.encode_jpeg(larger[0], quality=100).numpy()]))
    print(json.dumps({
        "signatures": sorted(loaded.signatures),
        "inputs": {name: str(each.structured_input_signature[1]) for name, each in loaded.signatures.items()},
        "plain": plain["probabilities"].numpy().tolist(), "ids": plain["class_ids"].numpy().tolist(),
        "encoded": encoded["probabilities"].numpy().tolist(), "encoded_ids": encoded["class_ids"].numpy().tolist(),
        "jpeg": jpeg["class_ids"].numpy().tolist(),
        "labels": open(loaded.labels.asset_path.numpy()).read().split(),
        "keras_loaded": "keras" in sys.modules and "imagetrain_trainer" in sys.modules,
    }))
    """
)
MIXED_PRECISION_WORKER = textwrap.dedent(
    """
    import sys
    import keras, numpy as np, tensorflow as tf
    from imagetrain_api import training_settings
    from imagetrain_trainer import models
    from imagetrain_trainer.models import registry
    from imagetrain_trainer.publish import export
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    with strategy.scope():
        model = registry.build_model(
            "small_cnn", input_shape=(8, 8, 1), classes=3, options={"width": 8}, synchronized_batch_norm=True
        )
    settings = training_settings.ModelSettings(architecture="small_cnn", input_shape=(8, 8, 1), options={"width": 8})
    plain = export.rebuild_in_float32(model, settings, 3)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    for ours, theirs in zip(plain.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    export.export_saved_model(plain, ("cat", "dog", "owl"), __import__("pathlib").Path(sys.argv[1]))
    print("exported")
    """
)


def run_python(code, *arguments, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def fresh(tiny, tmp_path_factory):
    """What a process that knows nothing of this package gets out of the SavedModel."""
    images = tmp_path_factory.mktemp("fresh") / "images.npy"
    np.save(images, tiny.images[:6])
    return json.loads(run_python(FRESH_PROCESS, tiny.built["saved_model"].path, images))


def test_a_fresh_process_finds_two_signatures_and_the_labels(fresh):
    assert fresh["signatures"] == ["serve_encoded", "serving_default"]
    assert "shape=(None, 8, 8, 1), dtype=tf.uint8" in fresh["inputs"]["serving_default"]
    assert "shape=(None,), dtype=tf.string" in fresh["inputs"]["serve_encoded"]
    assert fresh["labels"] == list(CLASSES)
    assert not fresh["keras_loaded"]


def test_it_answers_as_the_trained_model_does(fresh, tiny):
    import keras  # noqa: PLC0415

    expected = keras.ops.softmax(tiny.model(tiny.images[:6].astype(np.float32), training=False))
    assert np.allclose(fresh["plain"], expected, atol=1e-5)
    assert fresh["ids"] == np.argmax(expected, axis=1).tolist() == tiny.labels[:6].tolist()


def test_encoded_images_give_the_same_answers_at_any_size(fresh, tiny):
    assert fresh["encoded"] == fresh["plain"]
    assert fresh["encoded_ids"] == fresh["ids"]
    assert fresh["jpeg"] == tiny.labels[:1].tolist()


def test_a_model_of_a_strategy_in_mixed_precision_becomes_a_plain_float32_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    cluster = {"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}}
    output = run_python(MIXED_PRECISION_WORKER, tmp_path / "model", TF_CONFIG=json.dumps(cluster))
    assert output == "exported"
    assert (tmp_path / "model" / "saved_model.pb").exists()


def test_exporting_again_gives_the_same_weights_and_labels(tiny, tmp_path):
    from imagetrain_trainer.publish import artifacts, export  # noqa: PLC0415

    model = export.rebuild_in_float32(tiny.model, tiny.spec.model, 3)
    exports = []
    for name in ("first", "again"):
        export.export_saved_model(model, CLASSES, tmp_path / name)
        exports.append({each.name: each.sha256 for each in artifacts.collect_files(tmp_path / name)})
    first, again = exports
    # saved_model.pb holds names that count what the process traced before, fingerprint.pb a random id
    assert {name for name in first if first[name] != again[name]} == {"saved_model.pb", "fingerprint.pb"}
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again", "first"]  # no scratch is left
