"""How each failure of S3 looks to the rest of the trainer."""

import json
import socket
import struct
import threading
import time
import traceback

import pytest

from imagetrain_trainer import errors
from imagetrain_trainer.storage import store


@pytest.fixture
def versitygw(versitygw_s3, monkeypatch):
    """The server and a bucket of it, with the environment pointing there as its root user."""
    use(versitygw_s3, monkeypatch)
    bucket = versitygw_s3.create_bucket(f"test-{time.monotonic_ns()}")
    return versitygw_s3, f"s3://{bucket}/"


def use(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


def assert_no_secret(error, *secrets):
    text = "".join(traceback.format_exception(error))
    assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key_is_denied_at_the_door(versitygw, monkeypatch, variable):
    server, uri = versitygw
    monkeypatch.setenv(variable, "wrong-wrong-wrong")
    with pytest.raises(errors.AccessDeniedError, match=rf"cannot open {uri}: the server refused the access key") as e:
        store.open_store(uri)
    assert_no_secret(e.value, server.access_key, server.secret_key, "wrong-wrong-wrong")


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("operation", ["get", "head", "put", "list", "delete", "get_range"])
def test_a_key_that_stops_working_is_denied_everywhere(versitygw, monkeypatch, variable, operation):
    server, uri = versitygw
    monkeypatch.setenv(variable, "wrong-wrong-wrong")
    with monkeypatch.context() as patch:
        patch.setattr("imagetrain_trainer.storage.s3.S3Store.diagnose_bucket", lambda _: None)
        objects = store.open_store(uri)
    calls = {
        "get": lambda: objects.get("a"),
        "head": lambda: objects.head("a"),
        "put": lambda: objects.put("a", b"1"),
        "list": lambda: list(objects.list()),
        "delete": lambda: objects.delete(["a"]),
        "get_range": lambda: objects.get_range("a", 0, 1),
    }
    with pytest.raises(errors.AccessDeniedError, match=uri) as e:
        calls[operation]()
    assert_no_secret(e.value, server.access_key, server.secret_key, "wrong-wrong-wrong")


def test_a_denied_write_shows_in_the_probe_while_reading_works(versitygw, monkeypatch):
    server, uri = versitygw
    store.open_store(uri).put("a", b"1")
    use(server.create_read_only_user(uri.removeprefix("s3://").strip("/")), monkeypatch)
    objects = store.open_store(uri)
    assert objects.get("a") == b"1"
    assert [info.key for info in objects.list()] == ["a"]
    with pytest.raises(errors.AccessDeniedError, match=rf"cannot write {uri}\.imagetrain-probe-\w+: access denied"):
        objects.probe_writable()
    with pytest.raises(errors.AccessDeniedError, match=f"cannot delete {uri}a: access denied"):
        objects.delete(["a"])


def test_no_rights_at_all_is_told_from_an_unknown_key(versitygw, monkeypatch):
    server, uri = versitygw
    stranger = server.create_read_only_user(server.create_bucket("elsewhere"))
    use(stranger, monkeypatch)
    with pytest.raises(errors.AccessDeniedError, match=f"cannot read {uri}a: access denied"):
        store.open_store(uri).get("a")


@pytest.mark.parametrize("name", ["moto_s3", "versitygw_s3"])
def test_a_missing_bucket_is_told_from_a_missing_object(request, monkeypatch, name):
    server = request.getfixturevalue(name)
    use(server, monkeypatch)
    with pytest.raises(errors.BucketNotFoundError, match=r"bucket s3://no-such-bucket does not exist at http://127"):
        store.open_store("s3://no-such-bucket/x/")
    bucket = server.create_bucket(f"gone-{time.monotonic_ns()}")
    objects = store.open_store(f"s3://{bucket}/")
    server.client().delete_bucket(Bucket=bucket)
    for call in (lambda: objects.get("a"), lambda: objects.exists("a"), lambda: objects.put("a", b""), objects.list):
        with pytest.raises(errors.BucketNotFoundError, match=bucket):
            list(call() or [])


def test_absent_credentials_are_named(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(errors.AccessDeniedError, match=r"no credentials found\. Set AWS_ACCESS_KEY_ID"):
        store.open_store("s3://data/x/")


def test_a_bad_profile_is_a_config_error(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(errors.ConfigError, match="AWS configuration is invalid"):
        store.open_store("s3://data/x/")


def test_settings_override_the_environment(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    bucket = moto_s3.create_bucket("overridden")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    settings = store.S3Settings(endpoint_url=moto_s3.endpoint_url, region="eu-west-1")
    store.open_store(f"s3://{bucket}/", settings).put("a", b"1")


def test_the_endpoint_of_s3_alone_counts_more_than_the_general_one(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    bucket = moto_s3.create_bucket("specific")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_s3.endpoint_url)
    store.open_store(f"s3://{bucket}/").put("a", b"1")


def test_expiring_credentials_are_asked_for_again(moto_s3, monkeypatch, tmp_path):
    """The provider's answers are trusted for nine minutes, and botocore's live ten more at least."""
    script = tmp_path / "credentials"
    calls = tmp_path / "calls"
    expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 5))
    answer = json.dumps(
        {"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c", "Expiration": expiry}
    )
    script.write_text(f"#!/bin/sh\necho x >> {calls}\necho '{answer}'\n")
    script.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {script}\n")
    use(moto_s3, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    bucket = moto_s3.create_bucket("expiring")
    opened = store.open_store(f"s3://{bucket}/")
    begun = len(calls.read_text().split())
    opened.put("a", b"1")
    assert len(calls.read_text().split()) > begun


def test_a_refused_connection_shows_quickly(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    started = time.monotonic()
    with pytest.raises(
        errors.StorageUnavailableError, match=r"cannot open s3://data/x/: http://127\.0\.0\.1:1 did not"
    ):
        store.open_store("s3://data/x/", store.S3Settings(endpoint_url="http://127.0.0.1:1"))
    assert time.monotonic() - started < 15


def test_a_silent_server_shows_within_fifteen_seconds(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(errors.StorageUnavailableError, match="did not answer or failed"):
            store.open_store("s3://data/x/", store.S3Settings(endpoint_url=endpoint))
        assert time.monotonic() - started < 15


def test_passing_failures_are_retried(moto_s3, monkeypatch):
    """A server that answers 503 twice and then hands each connection to moto costs a delay and nothing else."""
    use(moto_s3, monkeypatch)
    bucket = moto_s3.create_bucket("flaky-bucket")
    store.open_store(f"s3://{bucket}/").put("a", b"hello")
    with FlakyServer(moto_s3.endpoint_url, failures=2) as endpoint:
        objects = store.open_store(f"s3://{bucket}/", store.S3Settings(endpoint_url=endpoint))
        assert objects.get("a") == b"hello"


class FlakyServer:
    """A loopback HTTP server: GETs of objects fail with 503 a few times, then get one fixed answer."""

    def __init__(self, upstream, failures):
        self._upstream, self._failures = upstream, failures

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                request = connection.recv(65536)
                connection.sendall(self._answer(request))

    def _answer(self, request):
        head = b'HTTP/1.1 %s\r\nConnection: close\r\nETag: "x"\r\nLast-Modified: Tue, 24 Nov 2026 10:00:00 GMT\r\n'
        if request.startswith(b"HEAD"):
            return head % b"200 OK" + b"Content-Length: 0\r\n\r\n"
        if self._failures:
            self._failures -= 1
            return head % b"503 Slow Down" + b"Content-Length: 0\r\n\r\n"
        return head % b"200 OK" + b"Content-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("arrives", [False, True])
def test_creation_whose_connection_broke_is_sent_again_only_where_nothing_came_of_it(moto_s3, monkeypatch, arrives):
    use(moto_s3, monkeypatch)
    bucket = moto_s3.create_bucket(f"reset-{str(arrives).lower()}")
    with ResettingProxy(moto_s3.endpoint_url, arrives=arrives) as endpoint:
        objects = store.open_store(f"s3://{bucket}/", store.S3Settings(endpoint_url=endpoint))
        if arrives:
            with pytest.raises(errors.ObjectExistsError, match="must not exist yet"):
                objects.put("a", b"hello", only_if_absent=True)
        else:
            objects.put("a", b"hello", only_if_absent=True)
        assert objects.get("a") == b"hello"


class ResettingProxy:
    """A loopback proxy that resets the connection of the first PUT, before or after it reached the server."""

    def __init__(self, upstream, *, arrives):
        host, port = upstream.removeprefix("http://").rstrip("/").split(":")
        self._upstream, self._arrives, self._is_over = (host, int(port)), arrives, False

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._pass_on(connection)

    def _pass_on(self, connection):
        request = connection.recv(65536)
        while b"\r\n\r\n" not in request or (request.startswith(b"PUT") and not request.endswith(b"hello")):
            request += connection.recv(65536)
        breaks = request.startswith(b"PUT") and not self._is_over
        self._is_over |= breaks
        if breaks and not self._arrives:
            self._reset(connection)
            return
        request = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        with socket.create_connection(self._upstream) as server:
            server.sendall(request)
            answer = b"".join(iter(lambda: server.recv(65536), b""))
        if breaks:
            self._reset(connection)
        else:
            connection.sendall(answer.replace(b"keep-alive", b"close"))

    @staticmethod
    def _reset(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_content_types_are_kept(moto_s3, monkeypatch):
    use(moto_s3, monkeypatch)
    bucket = moto_s3.create_bucket("typed-bucket")
    store.open_store(f"s3://{bucket}/").put("m.json", json.dumps({}).encode(), content_type="application/json")
    assert moto_s3.client().head_object(Bucket=bucket, Key="m.json")["ContentType"] == "application/json"
