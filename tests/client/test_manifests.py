import io
import types

import pytest

import jobs
from imagetrain_client import errors as client_errors
from imagetrain_client import manifests
from imagetrain_trainer import errors

BROKEN = """\
apiVersion: imagetrain.dev/v1alpha1
kind: ImageTrainingJob
metadata: {name: tiny}
spec:
  data: {uri: s3://data/set/}
  model: {architecture: small_cnn, inputShape: [8, 8, 2]}
  training:
    epochs: 0
    optimizr: {}
  output: {}
"""


def write(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold exactly one ImageTrainingJob, got an empty file."),
        ("a: [", ":1: a manifest must be YAML, but here expected the node content"),
        ("a: 1\na: 2", ":2: duplicate key 'a', first given on line 1."),
        ("a: 1\nspec:\n  b: 1\n  c: 2\n  b: 3", ":5: duplicate key 'b', first given on line 3."),
        ("a: !!python/name:os.system x", ":1: a manifest must be plain YAML, but has a tag"),
        ("kind: Secret\n---\nkind: Secret", "got 0 in 2 documents."),
        ("kind: ImageTrainingJob\n---\nkind: ImageTrainingJob", "got 2 in 2 documents."),
        (b"a: \xff", "must be UTF-8 text, but byte 3 is not."),
        (b"a: \x00", "must be YAML"),
        (b"a" * (manifests.MAX_SIZE_BYTES + 1), "must be a manifest of at most"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(errors.ConfigError) as caught:
        manifests.read_manifest(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("absent.yaml", "must be a manifest file, but it does not exist."), ("", "Is a directory.")]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, message):
    with pytest.raises(errors.ConfigError, match=message):
        manifests.read_manifest(str(tmp_path / name))


def test_a_job_beside_other_documents_is_found(tmp_path):
    text = f"kind: Secret\n---\n{jobs.write_manifest(tmp_path).read_text()}---\n"
    assert manifests.decode_manifest(manifests.read_manifest(write(tmp_path, text))).metadata.name == "tiny"


def test_standard_input_is_read(tmp_path, monkeypatch):
    data = jobs.write_manifest(tmp_path).read_bytes()
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    manifest = manifests.read_manifest("-")
    assert manifest.source == "standard input"
    assert manifests.decode_manifest(manifest).metadata.name == "tiny"


def test_every_broken_rule_is_reported_with_its_line(tmp_path):
    path = write(tmp_path, BROKEN)
    with pytest.raises(client_errors.InvalidManifestError) as caught:
        manifests.decode_manifest(manifests.read_manifest(path))
    assert str(caught.value) == f"{path} has 4 errors:"
    places = {line.split(" ", 1)[0]: line for line in caught.value.lines}
    assert set(places) == {f"{path}:6:", f"{path}:8:", f"{path}:9:", f"{path}:10:"}
    assert "Did you mean spec.training.optimizer?" in places[f"{path}:9:"]
    assert "spec.output.uri must be given" in places[f"{path}:10:"]


@pytest.mark.parametrize(
    ("overrides", "attribute", "value"),
    [
        (["training.epochs=7"], "training.epochs", 7),
        (["spec.training.epochs=7"], "training.epochs", 7),
        (["training.optimizer.learningRate=1e-3"], "training.optimizer.learning_rate", 0.001),
        (["model.inputShape=[32, 32, 3]"], "model.input_shape", (32, 32, 3)),
        (["training.schedule={name: cosine}"], "training.schedule.name", "cosine"),
        (["training.epochs=7", "training.epochs=9"], "training.epochs", 9),
        (["training.epochs="], "training.epochs", 10),  # the default is back
        (["output.gate.force=true"], "output.gate.force", True),
    ],
)
def test_an_override_sets_a_value(tmp_path, overrides, attribute, value):
    found = manifests.decode_manifest(manifests.read_manifest(str(jobs.write_manifest(tmp_path))), overrides).spec
    for part in attribute.split("."):
        found = getattr(found, part)
    assert found == value


def test_an_override_reaches_the_metadata(tmp_path):
    manifest = manifests.read_manifest(str(jobs.write_manifest(tmp_path)))
    assert manifests.decode_manifest(manifest, ["metadata.name=other"]).metadata.name == "other"
    assert manifest.document["metadata"]["name"] == "tiny"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "--set must be PATH=VALUE"),
        ("=3", "--set must be PATH=VALUE"),
        ("training..epochs=3", "--set must be PATH=VALUE"),
        ("training.epochs=[", "must have a YAML value"),
        ("training.epochs.x=3", "spec.training.epochs has no 'x' in it: its value is 2."),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(tmp_path, override, message):
    manifest = manifests.read_manifest(str(jobs.write_manifest(tmp_path)))
    with pytest.raises(errors.ConfigError) as caught:
        manifests.decode_manifest(manifest, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trainig.epochs=3", "--set: spec.trainig must be left out: this setting does not exist"),
        ("training.epoch=3", "--set: spec.training.epoch must be left out"),
        ("workers=0", "--set: spec.workers must be an integer >= 1"),
    ],
)
def test_an_override_that_breaks_a_rule_is_named(tmp_path, override, line):
    manifest = manifests.read_manifest(str(jobs.write_manifest(tmp_path)))
    with pytest.raises(client_errors.InvalidManifestError) as caught:
        manifests.decode_manifest(manifest, [override])
    assert caught.value.lines[0].startswith(line)
