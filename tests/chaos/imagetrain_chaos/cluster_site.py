"""What a job on the test cluster lives among: the cluster, its S3 server with packed images, and the operator."""

import base64
import contextlib
import dataclasses
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterator

import boto3
from mypy_boto3_s3 import S3Client

import cluster_jobs
import operator_processes
from imagetrain_chaos import jobs
from imagetrain_cluster import add_ons
from imagetrain_cluster import cluster as cluster_module

RECLAIM_TAINT = "aws-node-termination-handler/spot-itn"
_BUCKET = "soak"
_LEASE_SECONDS = 15  # the operator's default


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What can be harmed.

    Attributes:
        cluster: with two nodes; CoreDNS and the S3 server are on the first.
        operator: it serves the whole cluster and reads notices of nodes.
        own: jobs of a namespace.
        output_uri: below it lie the outputs of these.
    """

    cluster: cluster_module.Cluster
    operator: operator_processes.OperatorProcess
    own: cluster_jobs.ClusterJobs
    output_uri: str


@contextlib.contextmanager
def running() -> Iterator[Site]:
    """Bring up a cluster of one's own with all of it, and take it down with the block.

    Raises:
        ClusterError: this machine cannot.
    """
    cluster_module.sweep()
    folder = cluster_module.HOME / f"soak-{secrets.token_hex(4)}"
    cluster = cluster_module.Cluster.up(folder, nodes=2, owner=os.getpid())
    try:
        with (
            tempfile.TemporaryDirectory(prefix="imagetrain-soak-") as name,
            serving(cluster, pathlib.Path(name)) as site,
        ):
            yield site
    finally:
        cluster.down()


@contextlib.contextmanager
def serving(cluster: cluster_module.Cluster, folder: pathlib.Path) -> Iterator[Site]:
    """Put data and an operator into a cluster; within the block this process's environment says how S3 is reached."""
    s3 = cluster.s3()
    with _environment(
        AWS_ACCESS_KEY_ID=s3.access_key,
        AWS_SECRET_ACCESS_KEY=s3.secret_key,
        AWS_ENDPOINT_URL=s3.local_endpoint_url,
        AWS_REGION=s3.region,
    ):
        operator = _install_operator(cluster, folder)
        try:
            own, output_uri = _prepare_namespace(cluster, folder, s3)
            operator.start()
            operator.wait_until_serving()
            yield Site(cluster=cluster, operator=operator, own=own, output_uri=output_uri)
        finally:
            operator.close()


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update({name: before[name] for name in variables if name in before})


def _install_operator(cluster: cluster_module.Cluster, folder: pathlib.Path) -> operator_processes.OperatorProcess:
    operator_processes.install_rights(cluster)
    cluster.apply(*operator_processes.build_node_notices(cluster, folder))
    return operator_processes.OperatorProcess(
        cluster,
        folder,
        operator_processes.write_kubeconfig(cluster, folder),
        "--all-namespaces",
        f"--node-notice-taint={RECLAIM_TAINT}",
        lease_seconds=_LEASE_SECONDS,
    )


def _prepare_namespace(
    cluster: cluster_module.Cluster, folder: pathlib.Path, s3: add_ons.S3
) -> tuple[cluster_jobs.ClusterJobs, str]:
    """Return the jobs of a new namespace with the S3 key in it, and where their outputs go."""
    store = boto3.client("s3", region_name=s3.region)
    _upload_images(store, folder)
    namespace, output_uri = f"soak-{secrets.token_hex(4)}", f"s3://{_BUCKET}/models/"
    cluster.create_namespace(namespace)
    _write_secret(cluster, namespace, s3)
    data_uri = f"s3://{_BUCKET}/data/"
    return cluster_jobs.ClusterJobs(cluster, namespace, data_uri, output_uri, s3.endpoint_url, store), output_uri


def _upload_images(store: S3Client, folder: pathlib.Path) -> None:
    jobs.pack_images(folder / "images")
    data = folder / "images" / "set"
    store.create_bucket(Bucket=_BUCKET)
    for path in sorted(data.rglob("*")):
        if path.is_file():
            store.put_object(Bucket=_BUCKET, Key=f"data/{path.relative_to(data)}", Body=path.read_bytes())


def _write_secret(cluster: cluster_module.Cluster, namespace: str, s3: add_ons.S3) -> None:
    keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": cluster_jobs.SECRET, "namespace": namespace},
            "data": {name: base64.b64encode(value.encode()).decode() for name, value in keys.items()},
        }
    )
