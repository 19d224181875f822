"""The S3 server in the cluster, from both sides."""

import secrets
import subprocess

import botocore.exceptions
import pytest

from imagetrain_cluster import host_files

READ = """
import boto3, sys
client = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
print(len(client.get_object(Bucket=sys.argv[2], Key="key")["Body"].read()))
"""


@pytest.fixture
def bucket(s3_in_cluster):
    return s3_in_cluster.create_bucket(f"test-{secrets.token_hex(4)}")


def test_cluster_reads_what_this_process_wrote(cluster, s3_in_cluster, bucket):
    s3_in_cluster.client().put_object(Bucket=bucket, Key="key", Body=b"x" * 1_000_000)
    keys = {"AWS_ACCESS_KEY_ID": s3_in_cluster.access_key, "AWS_SECRET_ACCESS_KEY": s3_in_cluster.secret_key}
    arguments = [host_files.SCRIPTS / "python", "-c", READ, cluster.s3().endpoint_url, bucket]

    process = cluster.popen(arguments, env=keys, stdout=subprocess.PIPE)

    assert process.communicate(timeout=60)[0] == "1000000\n"
    assert (s3_in_cluster.root / bucket / "key").stat().st_size == 1_000_000


def test_read_only_user_may_not_write(s3_in_cluster, bucket):
    reader = s3_in_cluster.create_read_only_user(bucket).client()

    assert "Contents" not in reader.list_objects_v2(Bucket=bucket)
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        reader.put_object(Bucket=bucket, Key="key", Body=b"x")
