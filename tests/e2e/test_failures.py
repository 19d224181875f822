"""Bad jobs end with the right status and one line that names the place and the fix."""

import os
import shutil
import subprocess

import pytest

MODELS = "models/"


def assert_refused(finished, status, *words):
    """Check status and message, and that it is one line without a traceback."""
    assert finished.status == status, finished.errors
    assert "Traceback" not in finished.errors
    last = finished.errors.strip().splitlines()
    assert len(last) <= 2, finished.errors  # the second line says how to resume
    for word in words:
        assert word in last[0]


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_wrong_key_is_refused_before_any_worker_starts(imagetrain, write_job, s3_bucket):
    manifest = write_job(f"s3://{s3_bucket}/data/", f"s3://{s3_bucket}/{MODELS}")
    run = imagetrain("run", manifest, AWS_SECRET_ACCESS_KEY="wrong-secret-key")
    assert_refused(run, 102, s3_bucket)
    assert "wrong-secret-key" not in run.errors
    assert not imagetrain.runs.exists()


def test_a_missing_bucket_is_named(imagetrain, write_job, s3_server):
    run = imagetrain("run", write_job("s3://no-such-bucket/data/", f"s3://no-such-bucket/{MODELS}"))
    assert_refused(run, 105, "no-such-bucket")


def test_a_missing_output_bucket_is_named(imagetrain, write_job, local_data, s3_server):
    run = imagetrain("run", write_job(f"file://{local_data}/", f"s3://no-such-bucket/{MODELS}"))
    assert_refused(run, 105, "no-such-bucket")


def test_a_missing_data_set_is_named_with_the_command_that_makes_it(imagetrain, write_job, s3_bucket):
    run = imagetrain("run", write_job(f"s3://{s3_bucket}/data/", f"s3://{s3_bucket}/{MODELS}"))
    assert_refused(run, 105, "dataset.json", "imagetrain data pack SOURCE s3://")


def test_a_server_that_is_away_is_named(imagetrain, write_job, s3_bucket):
    manifest = write_job(f"s3://{s3_bucket}/data/", f"s3://{s3_bucket}/{MODELS}")
    run = imagetrain("run", manifest, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert_refused(run, 83, "127.0.0.1:9")


@pytest.mark.parametrize("s3_server", ["versitygw"], indirect=True)
def test_a_denied_write_is_refused_before_any_worker_starts(imagetrain, write_job, digits, s3_server, s3_bucket):
    data_uri, output_uri = f"s3://{s3_bucket}/data/", f"s3://{s3_bucket}/{MODELS}"
    assert imagetrain("data", "pack", digits, data_uri).status == 0
    reader = s3_server.create_read_only_user(s3_bucket)
    run = imagetrain("run", write_job(data_uri, output_uri), **reader.environment())
    assert_refused(run, 102, output_uri)
    assert not imagetrain.runs.exists()
    assert reader.secret_key not in run.errors


def test_a_corrupt_shard_is_named(imagetrain, write_job, local_data, tmp_path):
    shard = local_data / "train" / "shard-00000.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0xFF
    shard.write_bytes(data)
    run = imagetrain("run", write_job(f"file://{local_data}/", f"file://{tmp_path}/out/"))
    assert_refused(run, 101, "train/shard-00000.tfrecord")


def test_a_truncated_index_is_named(imagetrain, write_job, local_data, tmp_path):
    index = local_data / "train" / "shard-00000.index"
    index.write_bytes(index.read_bytes()[:-5])
    run = imagetrain("run", write_job(f"file://{local_data}/", f"file://{tmp_path}/out/", workers=1))
    assert_refused(run, 101, "train/shard-00000.index")


def test_an_unknown_architecture_is_named_with_the_nearest(imagetrain, write_job, local_data, tmp_path):
    model = {"architecture": "small_cn", "inputShape": [8, 8, 1]}
    run = imagetrain("run", write_job(f"file://{local_data}/", f"file://{tmp_path}/out/", workers=1, model=model))
    assert_refused(run, 100, "spec.model.architecture", "Did you mean 'small_cnn'?")


def test_a_full_disk_is_named(imagetrain, write_job, local_data, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    manifest = write_job(f"file://{local_data}/", f"file://{output}/", workers=1, recovery={"maxRestarts": 0})
    mount = f'mount -t tmpfs -o size=64k tmpfs {output} && exec "$@"'
    run = imagetrain("run", manifest, prefix=[*unshare(), "sh", "-c", mount, "sh"])
    assert_refused(run, 84, "space")


def unshare() -> list[str]:
    """Return the words that give a command mounts of its own, or skip the test where that is forbidden."""
    words = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine forbids mounts of one's own (unshare --mount)")
    return words
