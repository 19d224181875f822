"""Fixtures that several areas share. A fixture of one area lives in that area's conftest.py."""

import collections.abc
import secrets

import pytest

import s3_servers

pytest_plugins = ["imagetrain_cluster.pytest_plugin"]


@pytest.fixture(scope="session")
def moto_s3() -> collections.abc.Iterator[s3_servers.S3Server]:
    """Run one moto server for the whole session: in memory, any key accepted."""
    with s3_servers.moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw_s3(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[s3_servers.VersitygwServer]:
    """Run one versitygw for the whole session: keys and policies are enforced."""
    with s3_servers.versitygw_server(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture
def s3_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> s3_servers.S3Server:
    """Return a running server, with the AWS variables of this test set to it and to nothing else.

    It is moto unless the test says `@pytest.mark.parametrize("s3_server", ["moto", "versitygw"], indirect=True)`.
    """
    server: s3_servers.S3Server = request.getfixturevalue(f"{getattr(request, 'param', 'moto')}_s3")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def s3_bucket(s3_server: s3_servers.S3Server) -> str:
    """Return the name of a new, empty bucket on `s3_server`."""
    return s3_server.create_bucket(f"test-{secrets.token_hex(6)}")
