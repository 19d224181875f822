"""S3 servers of the storage tests: moto server (in memory) and versitygw (on a folder)."""

import collections.abc
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import boto3
import pytest

ACCESS_KEY, SECRET_KEY = "ROOTKEYROOTKEY", "root-secret-of-the-test"


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _serve(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                raise
            time.sleep(0.05)
        else:
            return process


def control_client(endpoint):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )


@pytest.fixture(scope="session")
def moto_endpoint() -> collections.abc.Iterator[str]:
    port = _free_port()
    server = pathlib.Path(sys.executable).with_name("moto_server")
    process = _serve([str(server), "-H", "127.0.0.1", "-p", str(port)], port)
    endpoint = f"http://127.0.0.1:{port}"
    control_client(endpoint).create_bucket(Bucket="data")
    yield endpoint
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def versitygw_endpoint(tmp_path_factory) -> collections.abc.Iterator[str]:
    binary = os.environ.get("VERSITYGW") or shutil.which("versitygw") or "/tmp/vgw/versitygw"
    if not pathlib.Path(binary).exists():
        pytest.skip("versitygw is not built")
    port, root = _free_port(), tmp_path_factory.mktemp("versitygw")
    users = tmp_path_factory.mktemp("users")
    command = [binary, "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{port}", "--iam-dir"]
    process = _serve([*command, str(users), "posix", str(root)], port)
    endpoint = f"http://127.0.0.1:{port}"
    control_client(endpoint).create_bucket(Bucket="data")
    yield endpoint
    process.kill()
    process.wait()


@pytest.fixture
def aws_keys(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
