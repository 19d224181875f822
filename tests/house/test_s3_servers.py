import pathlib
import socket
import urllib.parse

import botocore.exceptions
import obstore
import pytest
from obstore import exceptions, store

import s3_servers

both = pytest.mark.parametrize("s3_server", ["moto", "versitygw"], indirect=True)


def obstore_bucket(server: s3_servers.S3Server, bucket: str) -> store.S3Store:
    return store.S3Store(
        bucket,
        endpoint=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
        client_options={"allow_http": True},
    )


def error_code(error: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> str:
    return error.value.response["Error"]["Code"]


@both
def test_boto3_reads_what_it_wrote(s3_server: s3_servers.S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="a/b", Body=b"0123456789")
    assert client.get_object(Bucket=s3_bucket, Key="a/b")["Body"].read() == b"0123456789"
    assert client.get_object(Bucket=s3_bucket, Key="a/b", Range="bytes=2-4")["Body"].read() == b"234"
    assert [entry["Key"] for entry in client.list_objects_v2(Bucket=s3_bucket)["Contents"]] == ["a/b"]


@both
def test_boto3_writes_a_key_once_only_when_asked_to(s3_server: s3_servers.S3Server, s3_bucket: str) -> None:
    client = s3_server.client()
    client.put_object(Bucket=s3_bucket, Key="manifest", Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError) as error:
        client.put_object(Bucket=s3_bucket, Key="manifest", Body=b"second", IfNoneMatch="*")
    assert error_code(error) == "PreconditionFailed"
    assert client.get_object(Bucket=s3_bucket, Key="manifest")["Body"].read() == b"first"


@both
def test_obstore_reads_what_it_wrote(s3_server: s3_servers.S3Server, s3_bucket: str) -> None:
    bucket = obstore_bucket(s3_server, s3_bucket)
    obstore.put(bucket, "a/b", b"0123456789")
    assert bytes(obstore.get(bucket, "a/b").bytes()) == b"0123456789"
    assert [bytes(part) for part in obstore.get_ranges(bucket, "a/b", starts=[0, 7], lengths=[2, 3])] == [b"01", b"789"]


@both
def test_obstore_writes_a_key_once_only_when_asked_to(s3_server: s3_servers.S3Server, s3_bucket: str) -> None:
    bucket = obstore_bucket(s3_server, s3_bucket)
    obstore.put(bucket, "manifest", b"first", mode="create")
    with pytest.raises(exceptions.AlreadyExistsError):
        obstore.put(bucket, "manifest", b"second", mode="create")
    assert bytes(obstore.get(bucket, "manifest").bytes()) == b"first"


def test_versitygw_refuses_a_wrong_key(versitygw_s3: s3_servers.VersitygwServer) -> None:
    versitygw_s3.create_bucket("wrong-key")
    stranger = s3_servers.S3Server(endpoint_url=versitygw_s3.endpoint_url, access_key="nobody", secret_key="wrong")
    with pytest.raises(botocore.exceptions.ClientError) as error:
        stranger.client().list_objects_v2(Bucket="wrong-key")
    assert error_code(error) == "InvalidAccessKeyId"


def test_versitygw_lets_a_read_only_user_read_and_nothing_else(versitygw_s3: s3_servers.VersitygwServer) -> None:
    versitygw_s3.create_bucket("read-only")
    versitygw_s3.create_bucket("out-of-reach")
    versitygw_s3.client().put_object(Bucket="read-only", Key="a", Body=b"1")
    reader = versitygw_s3.create_read_only_user("read-only").client()

    assert reader.get_object(Bucket="read-only", Key="a")["Body"].read() == b"1"
    assert reader.list_objects_v2(Bucket="read-only")["KeyCount"] == 1
    with pytest.raises(botocore.exceptions.ClientError) as error:
        reader.put_object(Bucket="read-only", Key="b", Body=b"2")
    assert error_code(error) == "AccessDenied"
    with pytest.raises(botocore.exceptions.ClientError) as error:
        reader.delete_object(Bucket="read-only", Key="a")
    assert error_code(error) == "AccessDenied"
    with pytest.raises(botocore.exceptions.ClientError) as error:
        reader.list_objects_v2(Bucket="out-of-reach")
    assert error_code(error) == "AccessDenied"


def test_versitygw_keeps_objects_as_files(versitygw_s3: s3_servers.VersitygwServer) -> None:
    versitygw_s3.create_bucket("as-files")
    versitygw_s3.client().put_object(Bucket="as-files", Key="a/b", Body=b"1")
    assert (versitygw_s3.root / "as-files" / "a" / "b").read_bytes() == b"1"


def test_a_server_ends_with_its_context(tmp_path: pathlib.Path) -> None:
    with s3_servers.versitygw_server(tmp_path) as server:
        address = urllib.parse.urlsplit(server.endpoint_url)
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname or "", address.port or 0), timeout=5)


def test_a_missing_versitygw_names_the_command_that_builds_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_servers, "_CACHE", tmp_path)
    with pytest.raises(s3_servers.S3ServerError, match="Run: make versitygw"), s3_servers.versitygw_server(tmp_path):
        pass


def test_a_secret_key_is_not_printed(versitygw_s3: s3_servers.VersitygwServer) -> None:
    assert versitygw_s3.secret_key not in repr(versitygw_s3)
