"""Fixtures of the end-to-end tests on Kubernetes: data in the cluster's S3 server, and an operator that serves it."""

import base64
import collections.abc
import os
import pathlib
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request

import boto3
import numpy as np
import pytest
import sklearn.datasets
from mypy_boto3_s3 import S3Client

import cluster_jobs
import operator_processes
from imagetrain_cluster import add_ons
from imagetrain_cluster import cluster as cluster_module

BUCKET = "e2e"


@pytest.fixture(scope="session")
def _s3(cluster_of_session: cluster_module.Cluster) -> add_ons.S3:
    server = cluster_of_session.s3()
    deadline = time.monotonic() + 30
    while not _answers(server.local_endpoint_url):  # a new Service's address leads nowhere for a moment
        assert time.monotonic() < deadline, "the S3 server in the cluster did not answer within 30 s"
    return server


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError:
        return True  # it refuses who shows no key
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def _environment(_s3: add_ons.S3) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": _s3.access_key,
        "AWS_SECRET_ACCESS_KEY": _s3.secret_key,
        "AWS_ENDPOINT_URL": _s3.local_endpoint_url,
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture(scope="session")
def _store(_s3: add_ons.S3) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=_s3.local_endpoint_url,
        aws_access_key_id=_s3.access_key,
        aws_secret_access_key=_s3.secret_key,
        region_name="us-east-1",
    )


@pytest.fixture(scope="session")
def data_uri(_store: S3Client, _environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a packed data set of 400 digits on the S3 server in the cluster."""
    folder = tmp_path_factory.mktemp("cluster-digits")
    found = sklearn.datasets.load_digits()
    np.savez(folder / "digits.npz", x=(found.images[:400] * 15).astype(np.uint8), y=found.target[:400])
    _store.create_bucket(Bucket=BUCKET)
    uri = f"s3://{BUCKET}/data/digits/"
    command = pathlib.Path(sys.prefix) / "bin" / "imagetrain"
    subprocess.run(
        [command, "data", "pack", folder / "digits.npz", uri],
        env={**os.environ, **_environment},
        check=True,
        capture_output=True,
        timeout=60,
    )
    return uri


@pytest.fixture(scope="session")
def operator_kubeconfig(
    cluster_of_session: cluster_module.Cluster, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """Install the kind and the operator's rights; return the kubeconfig of its ServiceAccount."""
    operator_processes.install_rights(cluster_of_session)
    return operator_processes.write_kubeconfig(cluster_of_session, tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="session")
def _operator_of_session(
    cluster_of_session: cluster_module.Cluster,
    operator_kubeconfig: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> collections.abc.Iterator[operator_processes.OperatorProcess]:
    process = operator_processes.OperatorProcess(
        cluster_of_session, tmp_path_factory.mktemp("operator-logs"), operator_kubeconfig
    )
    yield process
    process.close()


@pytest.fixture
def operator(
    cluster: cluster_module.Cluster, _operator_of_session: operator_processes.OperatorProcess
) -> operator_processes.OperatorProcess:
    """Return a serving operator, the same process as long as no test ends it."""
    if not _operator_of_session.is_running:
        _operator_of_session.start()
    _operator_of_session.wait_until_serving()
    return _operator_of_session


@pytest.fixture
def no_operator(_operator_of_session: operator_processes.OperatorProcess) -> None:
    """End the operator of the other tests, which serves all namespaces."""
    if _operator_of_session.is_running:
        _operator_of_session.stop()


@pytest.fixture
def jobs(
    cluster: cluster_module.Cluster,
    namespace: str,
    operator: operator_processes.OperatorProcess,
    data_uri: str,
    _s3: add_ons.S3,
    _store: S3Client,
) -> cluster_jobs.ClusterJobs:
    """Return the jobs of a fresh namespace that holds the S3 key."""
    return _build_jobs(cluster, namespace, data_uri, _s3, _store)


@pytest.fixture(scope="module")
def jobs_of_module(
    cluster_of_session: cluster_module.Cluster, data_uri: str, _s3: add_ons.S3, _store: S3Client
) -> collections.abc.Iterator[cluster_jobs.ClusterJobs]:
    """Return the jobs of a namespace that the tests of one module share; the tests ask for `operator` themselves."""
    namespace = f"test-{secrets.token_hex(4)}"
    cluster_of_session.create_namespace(namespace)
    yield _build_jobs(cluster_of_session, namespace, data_uri, _s3, _store)
    cluster_of_session.delete_namespace(namespace)


def _build_jobs(
    cluster: cluster_module.Cluster, namespace: str, data_uri: str, s3: add_ons.S3, store: S3Client
) -> cluster_jobs.ClusterJobs:
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": cluster_jobs.SECRET, "namespace": namespace},
            "data": {
                "AWS_ACCESS_KEY_ID": base64.b64encode(s3.access_key.encode()).decode(),
                "AWS_SECRET_ACCESS_KEY": base64.b64encode(s3.secret_key.encode()).decode(),
            },
        }
    )
    output_uri = f"s3://{BUCKET}/models/{namespace}/"
    return cluster_jobs.ClusterJobs(cluster, namespace, data_uri, output_uri, s3.endpoint_url, store)
