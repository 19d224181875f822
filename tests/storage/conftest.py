"""A bucket of its own for each test of the fetcher, on versitygw behind a fault proxy of its own."""

import secrets

import pytest

import fault_proxy
import fetches
import s3_servers


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_servers.versitygw_server(tmp_path_factory.mktemp("fetching"), is_keeping_alive=True) as running:
        yield running


@pytest.fixture
def proxy(server):
    with fault_proxy.running(server) as running:
        yield running


@pytest.fixture
def bucket(server):
    name = server.create_bucket(f"fetch-{secrets.token_hex(4)}")
    for key, data in fetches.DATA.items():
        server.client().put_object(Bucket=name, Key=f"data/{key}", Body=data)
    return name


@pytest.fixture
def objects(proxy, bucket, monkeypatch):
    return fetches.open_through(proxy.server, bucket, monkeypatch)
