"""One table of manifests, good and bad. The operator's tests put the same table to the API server."""

import copy
import json
from typing import Any

import pytest

from imagetrain_api import job, schema

GOOD: dict[str, Any] = {
    "apiVersion": "imagetrain.dev/v1alpha1",
    "kind": "ImageTrainingJob",
    "metadata": {"name": "fashion", "namespace": "vision"},
    "spec": {
        "workers": 2,
        "data": {"uri": "s3://datasets/fashion/v1/"},
        "model": {"architecture": "small_cnn", "inputShape": [28, 28, 1]},
        "training": {"epochs": 5, "globalBatchSize": 256},
        "output": {"uri": "s3://models/fashion/"},
    },
}
ABSENT = object()

# What is changed in GOOD (path -> value; ABSENT removes the key).
ACCEPTED: list[dict[str, Any]] = [
    {},
    {"spec.workers": ABSENT},
    {"spec.workers": 256, "spec.training.globalBatchSize": 256},
    {"spec.training": ABSENT},
    {"spec.training": None},  # an empty key is an absent one, as in Kubernetes
    {"spec.training.epochs": 1},
    {"spec.training.precision": "bfloat16"},
    {"spec.training.optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True}},
    {"spec.training.optimizer": {"learningRate": 1}},  # an integer is a number
    {"spec.training.optimizer": {"name": "adam", "beta1": 0.5, "weightDecay": 0.01}},
    {"spec.training.schedule": {"name": "cosine", "warmupEpochs": 0.5, "finalFraction": 0.1}},
    {"spec.training.reduceLearningRateOnPlateau": {}},
    {"spec.training.earlyStopping": {"monitor": "val_accuracy", "patienceEpochs": 2}},
    {"spec.training.augmentation": {"flip": "both", "shift": 0.5, "rotationDegrees": 180, "zoom": 0.9}},
    {"spec.training.labelSmoothing": 0},
    {"spec.training.batchNormalization": "local"},
    {"spec.training.seed": 2**31 - 1},
    {"spec.model.options": {"dropout": 0.2, "nested": {"any": [1]}}},
    {"spec.model.module": "my.nets"},
    {"spec.model.inputShape": [96, 128, 3]},
    {"spec.data.uri": "file:///data/set"},
    {"spec.data.uri": "s3://datasets"},
    {"spec.output.uri": "s3://datasets/fashion/v10/"},  # beside data.uri, not inside it
    {"spec.output.formats": ["saved_model"]},
    {"spec.output.gate": {"maxAccuracyDrop": 0, "force": True, "minSpeedup": 1.5}},
    {"spec.output.int8": {"inputType": "int8", "calibrationSamples": 10}},
    {"spec.checkpoint": {"everySeconds": 1, "keep": 1}},
    {"spec.recovery": {"maxRestarts": 0, "stepTimeoutSeconds": 5, "startTimeoutSeconds": 10}},
    {"spec.s3": {"endpointUrl": "http://127.0.0.1:9000", "region": "eu-west-1", "credentialsSecret": "s3-key"}},
    {"spec.worker.resources": {"limits": {"nvidia.com/gpu": 1, "cpu": 0.5, "memory": "16Gi"}}},
    {"spec.worker.tolerations": [{"key": "gpu", "operator": "Exists"}]},
    {"spec.worker.podTemplate": {"spec": {"hostNetwork": True}}},
    {"spec.worker.nodeSelector": {"gpu": "h100"}},
    {"metadata.namespace": ABSENT},
    {"metadata.labels": {"team": "vision"}},
    {
        "metadata.uid": "1-2-3",
        "metadata.resourceVersion": "7",
        "status": {"phase": "Training"},
    },  # read back from a cluster
]

# What is changed, and the fields that the errors must name, in order.
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"apiVersion": "imagetrain.dev/v1"}, ["apiVersion"]),
    ({"kind": "TFJob"}, ["kind"]),
    ({"metadata": ABSENT}, ["metadata"]),
    ({"metadata.name": "Fashion"}, ["metadata.name"]),
    ({"metadata.name": "a" * 53}, ["metadata.name"]),
    ({"metadata.name": "-a"}, ["metadata.name"]),
    ({"metadata.nmae": "x"}, ["metadata.nmae"]),
    ({"metadata.labels": {"team": 1}}, ["metadata.labels.team"]),
    ({"spec": ABSENT}, ["spec"]),
    ({"spec": []}, ["spec"]),
    ({"spec.worker": "two"}, ["spec.worker"]),
    ({"spec.wrokers": 2}, ["spec.wrokers"]),
    ({"spec.workers": 0}, ["spec.workers"]),
    ({"spec.workers": 257}, ["spec.workers"]),
    ({"spec.workers": "2"}, ["spec.workers"]),
    ({"spec.workers": True}, ["spec.workers"]),  # a boolean is an int in Python
    ({"spec.workers": 2.0}, ["spec.workers"]),
    ({"spec.data": ABSENT}, ["spec.data"]),
    ({"spec.data.uri": ABSENT}, ["spec.data.uri"]),
    ({"spec.data.uri": None}, ["spec.data.uri"]),
    ({"spec.data.uri": "datasets/fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "gs://datasets/fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://ab/fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://Upper/fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://192.168.0.1/fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets//fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets/../fashion"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets/a b"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://key:secret@datasets/x"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file://relative/set"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file:///"}, ["spec.data.uri"]),
    ({"spec.model.architecture": ABSENT}, ["spec.model.architecture"]),
    ({"spec.model.architecture": "Small CNN"}, ["spec.model.architecture"]),
    ({"spec.model.inputShape": [28, 28]}, ["spec.model.inputShape"]),
    ({"spec.model.inputShape": [28, 28, 2]}, ["spec.model.inputShape"]),
    ({"spec.model.inputShape": [0, 28, 1]}, ["spec.model.inputShape[0]"]),
    ({"spec.model.inputShape": [28, "28", 1]}, ["spec.model.inputShape[1]"]),
    ({"spec.model.inputShape": "28x28x1"}, ["spec.model.inputShape"]),
    ({"spec.model.module": "my nets"}, ["spec.model.module"]),
    ({"spec.model.options": []}, ["spec.model.options"]),
    ({"spec.training.epochs": 0}, ["spec.training.epochs"]),
    ({"spec.training.epoch": 5}, ["spec.training.epoch"]),
    ({"spec.training.globalBatchSize": 1}, ["spec.training.globalBatchSize"]),  # two workers
    ({"spec.training.precision": "float16"}, ["spec.training.precision"]),
    ({"spec.training.seed": -1}, ["spec.training.seed"]),
    ({"spec.training.seed": 2**31}, ["spec.training.seed"]),
    ({"spec.training.labelSmoothing": 1}, ["spec.training.labelSmoothing"]),
    ({"spec.training.optimizer": {"name": "lion"}}, ["spec.training.optimizer.name"]),
    ({"spec.training.optimizer": {"learningRate": 0}}, ["spec.training.optimizer.learningRate"]),
    ({"spec.training.optimizer": {"learningRate": "1e-3"}}, ["spec.training.optimizer.learningRate"]),
    ({"spec.training.optimizer": {"learningRate": float("nan")}}, ["spec.training.optimizer.learningRate"]),
    ({"spec.training.optimizer": {"learningRate": float("inf")}}, ["spec.training.optimizer.learningRate"]),
    ({"spec.training.optimizer": {"name": "adam", "momentum": 0.9}}, ["spec.training.optimizer.momentum"]),
    ({"spec.training.optimizer": {"name": "sgd", "nesterov": True}}, ["spec.training.optimizer.nesterov"]),
    ({"spec.training.schedule": {"finalFraction": 0.1}}, ["spec.training.schedule.finalFraction"]),
    ({"spec.training.schedule": {"warmupEpochs": 5}}, ["spec.training.schedule.warmupEpochs"]),  # of 5 epochs
    ({"spec.training.augmentation": {"flip": "left"}}, ["spec.training.augmentation.flip"]),
    ({"spec.training.augmentation": {"shift": 0.6}}, ["spec.training.augmentation.shift"]),
    ({"spec.training.augmentation": {"rotate": 10}}, ["spec.training.augmentation.rotate"]),
    ({"spec.training.earlyStopping": {"monitor": "loss"}}, ["spec.training.earlyStopping.monitor"]),
    (
        {"spec.training.reduceLearningRateOnPlateau": {"factor": 1}},
        ["spec.training.reduceLearningRateOnPlateau.factor"],
    ),
    ({"spec.checkpoint": {"everySeconds": 0}}, ["spec.checkpoint.everySeconds"]),
    ({"spec.checkpoint": {"keep": 0}}, ["spec.checkpoint.keep"]),
    ({"spec.output": ABSENT}, ["spec.output"]),
    ({"spec.output.uri": "s3://datasets/fashion/v1/models"}, ["spec.output.uri"]),  # inside data.uri
    ({"spec.output.uri": "s3://datasets/fashion/v1"}, ["spec.output.uri"]),  # data.uri itself
    ({"spec.output.formats": []}, ["spec.output.formats"]),
    ({"spec.output.formats": ["tflite"]}, ["spec.output.formats[0]"]),
    ({"spec.output.formats": ["saved_model", "saved_model"]}, ["spec.output.formats"]),
    ({"spec.output.gate": {"maxAccuracyDrop": 1.5}}, ["spec.output.gate.maxAccuracyDrop"]),
    ({"spec.output.gate": {"force": "yes"}}, ["spec.output.gate.force"]),
    ({"spec.output.int8": {"inputType": "float32"}}, ["spec.output.int8.inputType"]),
    ({"spec.recovery": {"stepTimeoutSeconds": 1}}, ["spec.recovery.stepTimeoutSeconds"]),
    ({"spec.s3": {"endpointUrl": "localhost:9000"}}, ["spec.s3.endpointUrl"]),
    ({"spec.s3": {"endpointUrl": "http://u:p@host"}}, ["spec.s3.endpointUrl"]),
    ({"spec.s3": {"secretKey": "abc"}}, ["spec.s3.secretKey"]),
    ({"spec.worker.resources": {"limits": {"cpu": "2x"}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"cpu": -1}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"nvidia.com/gpu": "500m"}}}, ["spec.worker.resources.limits"]),
    ({"spec.worker.tolerations": ["gpu"]}, ["spec.worker.tolerations[0]"]),
    ({"spec.worker.nodeSelector": {"gpu": 1}}, ["spec.worker.nodeSelector.gpu"]),
    (  # a group as large as its replicas: 2 workers x 4 GPUs
        {"spec.worker.resources": {"limits": {"nvidia.com/gpu": 4}}, "spec.training.globalBatchSize": 7},
        ["spec.training.globalBatchSize"],
    ),
    (  # every error is told, in document order, not only the first
        {"metadata.name": "X", "spec.workers": 0, "spec.training.epochs": -1, "spec.outptu": {}},
        ["metadata.name", "spec.outptu", "spec.workers", "spec.training.epochs"],
    ),
]


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    manifest = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = manifest
        for key in parents:
            place = place.setdefault(key, {})
        if value is ABSENT:
            place.pop(last, None)
        else:
            place[last] = value
    return manifest


@pytest.mark.parametrize("changes", ACCEPTED, ids=str)
def test_good_manifest_is_accepted_and_survives_a_round_trip(changes: dict[str, Any]) -> None:
    decoded = job.decode_job(changed(changes))
    again = job.decode_job(json.loads(json.dumps(schema.encode(decoded))))
    assert again == decoded


@pytest.mark.parametrize(
    ("changes", "fields"), REFUSED, ids=[str(row[1][-1]) + str(n) for n, row in enumerate(REFUSED)]
)
def test_bad_manifest_is_refused_with_every_field_named(changes: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(changed(changes))
    assert [error.path for error in caught.value.errors] == fields


@pytest.mark.parametrize("manifest", [None, [], "job", 3])
def test_anything_but_an_object_is_refused(manifest: object) -> None:
    with pytest.raises(schema.ValidationError, match="manifest must be an object"):
        job.decode_job(manifest)


def test_misspelled_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(schema.ValidationError, match=r"Did you mean spec\.training\.epochs\?"):
        job.decode_job(changed({"spec.training.epoch": 3}))


def test_misspelled_choice_is_answered_with_the_right_one() -> None:
    with pytest.raises(schema.ValidationError, match="Did you mean 'tflite_int8'"):
        job.decode_job(changed({"spec.output.formats": ["tflite_int"]}))


def test_credentials_in_a_uri_are_not_repeated() -> None:
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(changed({"spec.data.uri": "s3://AKIAKEY:hunter2@datasets/x"}))
    assert "hunter2" not in str(caught.value)
    assert "AKIAKEY" not in str(caught.value)


def test_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(schema.ValidationError) as caught:
        job.decode_job(changed({"spec.model.architecture": "x" * 5000}))
    assert len(str(caught.value)) < 300


def test_document_made_in_code_obeys_the_same_rules() -> None:
    with pytest.raises(schema.ValidationError, match="everySeconds must be an integer >= 1"):
        job.CheckpointSettings(every_seconds=0)


def test_defaults_are_those_of_the_reference() -> None:
    spec = job.decode_job(changed({"spec.workers": ABSENT, "spec.training": ABSENT})).spec
    assert spec.workers == 1
    assert spec.training.optimizer.name == "adam"
    assert spec.output.formats == job.FORMATS
    assert spec.checkpoint.every_seconds == 60


def test_gpus_of_a_worker_come_from_its_limits() -> None:
    limits = {"limits": {"nvidia.com/gpu": 2}}
    assert job.decode_job(changed({"spec.worker.resources": limits})).spec.worker.gpus == 2
    assert job.decode_job(GOOD).spec.worker.gpus == 0
