"""One table of manifests, good and bad: `imagetrain_api` and the API server must agree on every row."""

import copy
import secrets
from typing import Any

NAMESPACE = f"imagetrain-{secrets.token_hex(4)}"  # another in each run: an earlier one may still be ending
GOOD: dict[str, Any] = {
    "apiVersion": "imagetrain.dev/v1alpha1",
    "kind": "ImageTrainingJob",
    "metadata": {"name": "fashion", "namespace": NAMESPACE},
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
    {"spec.training.augmentation.crop": {}},
    {
        "spec.training.augmentation": {
            "crop": {"minArea": 0.5, "maxArea": 0.5, "minAspectRatio": 1, "maxAspectRatio": 1}
        }
    },
    {"spec.training.augmentation.crop": None},
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
    {"spec.checkpoint": {"everySteps": 500}},
    {"spec.checkpoint": {"auto": True}},
    {"spec.recovery": {"maxRestarts": 0, "stepTimeoutSeconds": 5, "startTimeoutSeconds": 10}},
    {"spec.workers": 2, "spec.recovery": {"minWorkers": 2, "elasticTimeoutSeconds": 1, "skipPoisonBatches": True}},
    {"spec.recovery": {"minWorkers": 1, "forceDeleteAfterSeconds": 0}},
    {"spec.s3": {"endpointUrl": "http://127.0.0.1:9000", "region": "eu-west-1", "credentialsSecret": "s3-key"}},
    {"spec.s3": {"endpointUrl": "https://[::1]:9000/"}},
    {"spec.s3.region": None},
    {"spec.data.uri": "file:///data/with%20space/%C3%A9"},
    {"spec.data.uri": "s3://datasets/Ünïcode/v1/"},
    {"spec.data.uri": "s3://datasets/.hidden/..dots/a@b"},
    {"spec.data.sampling": {"balance": "classes"}},
    {"spec.data.sampling": {"balance": "weights", "classWeights": {"cat": 2, "big dog": 0.5}}},
    {"spec.data.cache": {"size": "20Gi", "path": "/var/cache/imagetrain"}},
    {"spec.data.cache": {"size": 1000000}, "spec.data.readAhead": "256Mi", "spec.data.tuneReads": True},
    {"spec.output.uri": "s3://models/" + "x" * 500},  # 512 bytes
    {"spec.workers": 2.0},  # kubectl sends 2
    {"spec.worker.resources": {"limits": {"nvidia.com/gpu": 1, "cpu": 2, "memory": "16Gi"}}},
    {"spec.worker.resources": {"limits": {"nvidia.com/gpu": "4", "cpu": "0.5"}, "requests": {"cpu": "500m"}}},
    {"spec.worker.resources": {"limits": {"memory": "1.5e9", "cpu": "+1", "ephemeral-storage": ".5Gi"}}},
    {"spec.worker.resources": {"limits": {"nvidia.com/gpu": 0}}},
    {"spec.worker.resources": {"limits": {"nvidia.com/gpu": 128}}},  # times 2 workers: the batch of 256
    {"spec.worker.resources": {"limits": None}},
    {"spec.worker.image": "registry.example.com:5000/team/trainer@sha256:0123"},
    {"spec.worker": {"imagePullPolicy": "Never", "imagePullSecrets": [{"name": "registry"}], "allowCpu": True}},
    {"spec.worker.env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]},
    {"spec.worker": {"volumes": [{"name": "v", "emptyDir": {}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]}},
    {"spec.worker": {"serviceAccountName": "trainer.v1", "priorityClassName": "high"}},
    {"spec.worker.affinity": {"nodeAffinity": {"any": [{"thing": 1}]}}},
    {"spec.worker.topologySpreadConstraints": [{"maxSkew": 1}]},
    {"spec.worker.terminationGracePeriodSeconds": 1},
    {"spec.worker.nodeSelector": {"gpu": "h100", "zone": None}},  # an empty value is an absent one
    {"spec.worker": {}},
    {"spec.suspend": True},
    {"spec.suspend": None},
    {"spec.activeDeadlineSeconds": 1, "spec.readyDeadlineSeconds": 2**31 - 1, "spec.ttlSecondsAfterFinished": 0},
    {"spec.worker.tolerations": [{"key": "gpu", "operator": "Exists"}]},
    {"spec.worker.podTemplate": {"spec": {"hostNetwork": True}}},
    {"spec.worker.nodeSelector": {"gpu": "h100"}},
    {"metadata.namespace": ABSENT},
    {"metadata.labels": {"team": "vision", "example.com/cost-center": "", "A_b.c": "1.0"}},
    {"metadata.annotations": {"Example.COM/note": "x", "example.com/note": "any text, ünd more"}},
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
    ({"metadata.labels": {"team": "a b"}}, ["metadata.labels.team"]),
    ({"metadata.labels": {"a b": "x"}}, ["metadata.labels"]),
    ({"metadata.annotations": {"/x": "x"}}, ["metadata.annotations"]),
    ({"spec": ABSENT}, ["spec"]),
    ({"spec": []}, ["spec"]),
    ({"spec.worker": "two"}, ["spec.worker"]),
    ({"spec.wrokers": 2}, ["spec.wrokers"]),
    ({"spec.workers": 0}, ["spec.workers"]),
    ({"spec.workers": 257}, ["spec.workers"]),
    ({"spec.workers": "2"}, ["spec.workers"]),
    ({"spec.workers": True}, ["spec.workers"]),  # a boolean is an int in Python
    ({"spec.workers": 2.5}, ["spec.workers"]),
    ({"spec.workers": 2**70}, ["spec.workers"]),
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
    ({"spec.data.uri": "s3://datasets/a\x7fb"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets/a\nb"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://a..b/x"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets//"}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets/x?versionId=1"}, ["spec.data.uri"]),
    ({"spec.data.uri": "S3://datasets/x"}, ["spec.data.uri"]),
    ({"spec.data.uri": ""}, ["spec.data.uri"]),
    ({"spec.data.uri": "s3://datasets/" + "ü" * 250}, ["spec.data.uri"]),  # 264 characters, 514 bytes
    ({"spec.data.uri": "s3://datasets/" + "x" * 499}, ["spec.data.uri"]),  # 513 bytes
    ({"spec.data.uri": "file:///a/%2e%2E/b"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file:///a%2Fb"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file:///a%00b"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file:////"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file:///a/./b"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file://relative/set"}, ["spec.data.uri"]),
    ({"spec.data.uri": "file:///"}, ["spec.data.uri"]),
    ({"spec.data.sampling": {"balance": "class"}}, ["spec.data.sampling.balance"]),
    ({"spec.data.sampling": {"balance": "weights"}}, ["spec.data.sampling.classWeights"]),
    ({"spec.data.sampling": {"classWeights": {"cat": 2}}}, ["spec.data.sampling.classWeights"]),
    (
        {"spec.data.sampling": {"balance": "weights", "classWeights": {"cat": 0}}},
        ["spec.data.sampling.classWeights.cat"],
    ),
    ({"spec.data.cache": {}}, ["spec.data.cache.size"]),
    ({"spec.data.cache": {"size": "-1"}}, ["spec.data.cache.size"]),
    ({"spec.data.cache": {"size": "1Gi", "path": "cache"}}, ["spec.data.cache.path"]),
    ({"spec.data.readAhead": "64MB"}, ["spec.data.readAhead"]),
    ({"spec.data.tuneReads": "yes"}, ["spec.data.tuneReads"]),
    ({"spec.model.architecture": ABSENT}, ["spec.model.architecture"]),
    ({"spec.model.architecture": "Small CNN"}, ["spec.model.architecture"]),
    ({"spec.model.inputShape": [28, 28]}, ["spec.model.inputShape"]),
    ({"spec.model.inputShape": [28, 28, 2]}, ["spec.model.inputShape"]),
    ({"spec.model.inputShape": [0, 28, 1]}, ["spec.model.inputShape[0]"]),
    ({"spec.model.inputShape": [28, "28", 1]}, ["spec.model.inputShape[1]"]),
    ({"spec.model.inputShape": "28x28x1"}, ["spec.model.inputShape"]),
    ({"spec.model.inputShape": [28, None, 1]}, ["spec.model.inputShape[1]"]),
    ({"spec.model.module": "my nets"}, ["spec.model.module"]),
    ({"spec.model.module": "réseau"}, ["spec.model.module"]),  # \w is wider in Python
    ({"spec.model.module": "nets\n"}, ["spec.model.module"]),  # $ is wider in Python
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
    ({"spec.training.augmentation": {"crop": True}}, ["spec.training.augmentation.crop"]),
    ({"spec.training.augmentation.crop": {"minArea": 0}}, ["spec.training.augmentation.crop.minArea"]),
    ({"spec.training.augmentation.crop": {"maxArea": 1.5}}, ["spec.training.augmentation.crop.maxArea"]),
    (
        {"spec.training.augmentation.crop": {"maxArea": 0.05}},
        ["spec.training.augmentation.crop.maxArea"],
    ),  # below minArea
    ({"spec.training.augmentation.crop": {"maxAspectRatio": 0.5}}, ["spec.training.augmentation.crop.maxAspectRatio"]),
    ({"spec.training.augmentation.crop": {"area": 0.5}}, ["spec.training.augmentation.crop.area"]),
    ({"spec.training.earlyStopping": {"monitor": "loss"}}, ["spec.training.earlyStopping.monitor"]),
    (
        {"spec.training.reduceLearningRateOnPlateau": {"factor": 1}},
        ["spec.training.reduceLearningRateOnPlateau.factor"],
    ),
    ({"spec.checkpoint": {"everySeconds": 0}}, ["spec.checkpoint.everySeconds"]),
    ({"spec.checkpoint": {"everySteps": 0}}, ["spec.checkpoint.everySteps"]),
    ({"spec.checkpoint": {"auto": "always"}}, ["spec.checkpoint.auto"]),
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
    ({"spec.s3": {"endpointUrl": "http://host:123456"}}, ["spec.s3.endpointUrl"]),
    ({"spec.s3": {"endpointUrl": "http://host/path"}}, ["spec.s3.endpointUrl"]),
    ({"spec.s3": {"secretKey": "abc"}}, ["spec.s3.secretKey"]),
    ({"spec.s3": {"region": "EU"}}, ["spec.s3.region"]),
    ({"spec.s3": {"credentialsSecret": "S3"}}, ["spec.s3.credentialsSecret"]),
    ({"spec.worker.resources": {"limits": {"cpu": "2x"}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"cpu": -1}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"cpu": "-1"}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"cpu": 0.5}}}, ["spec.worker.resources.limits.cpu"]),  # OpenAPI has no such
    ({"spec.worker.resources": {"limits": {"cpu": True}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"cpu": 2**64}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"limits": {"cpu": "1e400"}}}, ["spec.worker.resources.limits.cpu"]),
    ({"spec.worker.resources": {"requests": {"memory": "1gi"}}}, ["spec.worker.resources.requests.memory"]),
    ({"spec.worker.resources": {"limits": {"nvidia.com/gpu": "1k"}}}, ["spec.worker.resources.limits"]),
    ({"spec.worker.resources": {"limits": {"nvidia.com/gpu": 1000}}}, ["spec.worker.resources.limits"]),
    ({"spec.worker.resources": {"limits": {"nvidia.com/gpu": 129}}}, ["spec.training.globalBatchSize"]),
    ({"spec.worker.resources": {"limits": {f"r{n}": 1 for n in range(65)}}}, ["spec.worker.resources.limits"]),
    ({"spec.worker.resources": {"claims": []}}, ["spec.worker.resources.claims"]),
    ({"spec.worker.image": "trainer image"}, ["spec.worker.image"]),
    ({"spec.worker.image": ""}, ["spec.worker.image"]),
    ({"spec.worker.imagePullPolicy": "Sometimes"}, ["spec.worker.imagePullPolicy"]),
    ({"spec.worker.imagePullSecrets": ["registry"]}, ["spec.worker.imagePullSecrets[0]"]),
    ({"spec.worker.imagePullSecrets": [{}]}, ["spec.worker.imagePullSecrets[0].name"]),
    ({"spec.worker.imagePullSecrets": [{"name": "Reg"}]}, ["spec.worker.imagePullSecrets[0].name"]),
    ({"spec.worker.imagePullSecrets": [{"name": "r", "key": "k"}]}, ["spec.worker.imagePullSecrets[0].key"]),
    ({"spec.worker.allowCpu": "true"}, ["spec.worker.allowCpu"]),
    ({"spec.worker.env": {"A": "1"}}, ["spec.worker.env"]),
    ({"spec.worker.env": [{"name": "A"}] * 65}, ["spec.worker.env"]),
    ({"spec.worker.volumes": ["data"]}, ["spec.worker.volumes[0]"]),
    ({"spec.worker.volumeMounts": [None]}, ["spec.worker.volumeMounts[0]"]),
    ({"spec.worker.serviceAccountName": "a/b"}, ["spec.worker.serviceAccountName"]),
    ({"spec.worker.priorityClassName": "a" * 254}, ["spec.worker.priorityClassName"]),
    ({"spec.worker.affinity": []}, ["spec.worker.affinity"]),
    ({"spec.worker.topologySpreadConstraints": [1]}, ["spec.worker.topologySpreadConstraints[0]"]),
    ({"spec.worker.terminationGracePeriodSeconds": 0}, ["spec.worker.terminationGracePeriodSeconds"]),
    ({"spec.worker.podTemplate": "x"}, ["spec.worker.podTemplate"]),
    ({"spec.worker.command": ["sh"]}, ["spec.worker.command"]),
    ({"spec.suspend": "yes"}, ["spec.suspend"]),
    ({"spec.activeDeadlineSeconds": 0}, ["spec.activeDeadlineSeconds"]),
    ({"spec.readyDeadlineSeconds": 2**31}, ["spec.readyDeadlineSeconds"]),
    ({"spec.ttlSecondsAfterFinished": -1}, ["spec.ttlSecondsAfterFinished"]),
    ({"spec.worker.resources": {"limits": {"nvidia.com/gpu": "500m"}}}, ["spec.worker.resources.limits"]),
    ({"spec.worker.tolerations": ["gpu"]}, ["spec.worker.tolerations[0]"]),
    ({"spec.worker.nodeSelector": {"gpu": "a b"}}, ["spec.worker.nodeSelector.gpu"]),
    ({"spec.worker.nodeSelector": {"gpu": 1}}, ["spec.worker.nodeSelector.gpu"]),
    ({"spec.workers": 2, "spec.recovery": {"minWorkers": 3}}, ["spec.recovery.minWorkers"]),
    ({"spec.recovery": {"minWorkers": 0}}, ["spec.recovery.minWorkers"]),
    ({"spec.recovery": {"elasticTimeoutSeconds": 0}}, ["spec.recovery.elasticTimeoutSeconds"]),
    ({"spec.recovery": {"forceDeleteAfterSeconds": -1}}, ["spec.recovery.forceDeleteAfterSeconds"]),
    (  # a group as large as its replicas: 2 workers x 4 GPUs
        {"spec.worker.resources": {"limits": {"nvidia.com/gpu": 4}}, "spec.training.globalBatchSize": 7},
        ["spec.training.globalBatchSize"],
    ),
    (  # every error is told, in document order, not only the first
        {"metadata.name": "X", "spec.workers": 0, "spec.training.epochs": -1, "spec.outptu": {}},
        ["metadata.name", "spec.outptu", "spec.workers", "spec.training.epochs"],
    ),
]

# What an existing job was, what it becomes, and the fields that the errors must name, in order.
UPDATES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {}, []),
    ({"spec.workers": 2}, {"spec.workers": 3}, ["spec.workers"]),
    ({"spec.workers": 2}, {"spec.workers": 3, "spec.suspend": True}, []),
    ({"spec.workers": 2, "spec.suspend": True}, {"spec.workers": 3}, []),
    ({"spec.workers": 2, "spec.suspend": True}, {"spec.workers": 3, "spec.suspend": True}, []),
    ({}, {"spec.suspend": True}, []),
    ({"spec.suspend": True}, {}, []),
    ({}, {"spec.activeDeadlineSeconds": 60, "spec.readyDeadlineSeconds": 60}, []),
    ({"spec.activeDeadlineSeconds": 60}, {"spec.activeDeadlineSeconds": ABSENT}, []),
    ({}, {"spec.ttlSecondsAfterFinished": 60}, []),
    ({}, {"spec.recovery": {"maxRestarts": 3}}, []),
    ({}, {"metadata.labels": {"team": "vision"}}, []),
    ({}, {"spec.checkpoint": {"everySeconds": 5}}, ["spec.checkpoint"]),
    ({}, {"spec.checkpoint": {"everySeconds": 5}, "spec.suspend": True}, []),
    ({}, {"spec.checkpoint": {"everySeconds": 60, "keep": 3}}, []),  # the defaults
    ({}, {"spec.s3": {"credentialsSecret": "key"}}, ["spec.s3"]),
    ({"spec.s3.region": "a"}, {"spec.s3.region": "b", "spec.suspend": True}, []),
    ({}, {"spec.worker": {"resources": {"limits": {"cpu": 1}}}}, ["spec.worker"]),
    ({}, {"spec.worker": {"podTemplate": {"spec": {"hostNetwork": True}}}}, ["spec.worker"]),
    (
        {"spec.worker": {"env": [{"name": "A", "value": "1"}]}},
        {"spec.worker": {"env": [{"name": "A"}]}},
        ["spec.worker"],
    ),
    ({"spec.worker": {"nodeSelector": {"a": "1"}}}, {"spec.worker": {"nodeSelector": {"a": "2"}}}, ["spec.worker"]),
    (
        {"spec.worker.env": [{"name": "A", "value": "1"}]},
        {"spec.worker.env": [{"name": "A", "v": "1"}]},
        ["spec.worker"],
    ),
    ({"spec.worker.podTemplate": {"spec": {}}}, {"spec.worker.podTemplate": {"metadata": {}}}, ["spec.worker"]),
    ({"spec.model.options": {"dropout": 0.1}}, {"spec.model.options": {"alpha": 0.1}}, ["spec.model"]),
    ({"spec.worker": {"nodeSelector": {"a": "1"}}}, {"spec.worker": {"nodeSelector": {"a": "1"}}}, []),
    ({}, {"spec.worker": {"env": [], "affinity": {}}}, []),
    ({}, {"spec.data.uri": "s3://datasets/other/"}, ["spec.data.uri"]),
    ({}, {"spec.data.uri": "s3://datasets/other/", "spec.suspend": True}, ["spec.data.uri"]),
    ({}, {"spec.data.uri": "s3://datasets/fashion/v1"}, ["spec.data.uri"]),  # another spelling
    ({}, {"spec.data.sampling": {"balance": "classes"}}, ["spec.data.sampling"]),
    (
        {"spec.data.sampling": {"balance": "weights", "classWeights": {"cat": 2}}},
        {"spec.data.sampling": {"balance": "weights", "classWeights": {"cat": 3}}, "spec.suspend": True},
        ["spec.data.sampling"],
    ),
    ({}, {"spec.data.cache": {"size": "1Gi"}, "spec.data.readAhead": "1Gi", "spec.data.tuneReads": True}, []),
    ({}, {"spec.model.options": {"dropout": 0.1}}, ["spec.model"]),
    ({"spec.model.options": {"a": {"b": [1]}}}, {"spec.model.options": {"a": {"b": [2]}}}, ["spec.model"]),
    ({"spec.model.options": {"a": {"b": [1]}}}, {"spec.model.options": {"a": {"b": [1]}}}, []),
    ({}, {"spec.training.epochs": 6}, ["spec.training"]),
    ({"spec.suspend": True}, {"spec.training.seed": 3, "spec.suspend": True}, ["spec.training"]),
    ({}, {"spec.training.earlyStopping": {}}, ["spec.training"]),
    ({}, {"spec.output.gate": {"force": True}}, ["spec.output"]),
    ({}, {"spec.workers": 1, "spec.training.epochs": 1}, ["spec.training", "spec.workers"]),
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
