"""Real S3 servers for the tests: moto (in memory, takes any key), versitygw (on a directory, checks keys and policies).

Each runs as a process of its own on a free loopback port and ends with its context. Nothing here knows pytest.
"""

import collections.abc
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import boto3
import botocore.config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

START_TIMEOUT_SECONDS = 60.0
"""moto imports for 2 to 5 s on a busy two-core machine; the rest is room."""

STOP_TIMEOUT_SECONDS = 10.0

# Looked up at import: a test may have a cache of its own when the session's server starts.
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
_GO_MODULE = pathlib.Path(__file__).parents[1] / "tools" / "versitygw" / "go.mod"


class S3ServerError(Exception):
    """A server is not built, or did not start; the message says what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A running server and the credentials of one of its users."""

    endpoint_url: str
    access_key: str
    secret_key: str = dataclasses.field(repr=False)
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """Return the variables that point the standard AWS credential and endpoint chain at this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self) -> "S3Client":
        """Return a boto3 client of this server that reads nothing from the environment and never retries."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=botocore.config.Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}
            ),
        )

    def create_bucket(self, name: str) -> str:
        """Create an empty bucket (three letters or more) and return its name."""
        self.client().create_bucket(Bucket=name)
        return name


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VersitygwServer(S3Server):
    """A running versitygw and its root user."""

    binary: pathlib.Path
    root: pathlib.Path
    """Buckets are the folders in here, objects are files: a test may damage them directly."""

    def create_read_only_user(self, bucket: str) -> S3Server:
        """Create a user who may list and get in `bucket` and nothing else; return the server as that user sees it."""
        user = S3Server(
            endpoint_url=self.endpoint_url,
            access_key=f"reader-{secrets.token_hex(4)}",
            secret_key=secrets.token_hex(16),
            region=self.region,
        )
        self._admin("create-user", "--access", user.access_key, "--secret", user.secret_key, "--role", "user")
        resource = f"arn:aws:s3:::{bucket}"
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": [user.access_key]},
            "Action": ["s3:GetObject", "s3:ListBucket"],
            "Resource": [resource, f"{resource}/*"],
        }
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        self.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
        return user

    def _admin(self, *arguments: str) -> None:
        credentials = {"ADMIN_ACCESS_KEY_ID": self.access_key, "ADMIN_SECRET_ACCESS_KEY": self.secret_key}
        environment = os.environ | credentials | {"ADMIN_ENDPOINT_URL": self.endpoint_url, "ADMIN_REGION": self.region}
        result = subprocess.run(
            [self.binary, "admin", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            raise S3ServerError(
                f"versitygw admin {arguments[0]} failed: {result.stderr.strip() or result.stdout.strip()}"
            )


def versitygw_binary() -> pathlib.Path:
    """Return the binary that `make versitygw` leaves in the user's cache.

    Raises:
        S3ServerError: It is not there.
    """
    match = re.search(r"github\.com/versity/versitygw (v\S+)", _GO_MODULE.read_text())
    assert match is not None, f"{_GO_MODULE} does not require versitygw"
    binary = _CACHE / "imagetrain" / "tools" / f"versitygw-{match[1]}" / "versitygw"
    if not binary.exists():
        raise S3ServerError(f"{binary} does not exist. Run: make versitygw")
    return binary


@contextlib.contextmanager
def moto_server() -> collections.abc.Iterator[S3Server]:
    """Run moto's server: objects in memory, any key accepted, conditional writes and ranges right.

    Raises:
        S3ServerError: It does not answer within START_TIMEOUT_SECONDS.
    """
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with _running(command, port, environment=dict(os.environ)):
        yield S3Server(endpoint_url=f"http://127.0.0.1:{port}", access_key="testing", secret_key="testing")


@contextlib.contextmanager
def versitygw_server(
    root: pathlib.Path, *, is_keeping_alive: bool = False
) -> collections.abc.Iterator[VersitygwServer]:
    """Run versitygw with its buckets under `root`/buckets: keys, ACLs and bucket policies are enforced.

    Metadata lies in a sidecar folder, so `root` may be on a file system without extended attributes. By its default it
    closes the connection after each answer; with `is_keeping_alive` it is used again, as on Amazon S3.

    Raises:
        S3ServerError: The binary is not built, or the server does not answer within START_TIMEOUT_SECONDS.
    """
    port = _free_port()
    server = VersitygwServer(
        endpoint_url=f"http://127.0.0.1:{port}",
        access_key="root-user",
        secret_key=secrets.token_hex(16),
        binary=versitygw_binary(),
        root=root / "buckets",
    )
    for folder in (server.root, root / "iam", root / "sidecar"):
        folder.mkdir(parents=True)
    listen = ["--port", f"127.0.0.1:{port}", "--region", server.region, "--quiet"]
    listen += ["--keep-alive"] if is_keeping_alive else []
    users = ["--iam-dir", str(root / "iam"), "--iam-cache-disable"]
    backend = ["posix", "--sidecar", str(root / "sidecar"), str(server.root)]
    credentials = {"ROOT_ACCESS_KEY_ID": server.access_key, "ROOT_SECRET_ACCESS_KEY": server.secret_key}
    with _running([str(server.binary), *listen, *users, *backend], port, environment=os.environ | credentials):
        yield server


@contextlib.contextmanager
def _running(command: list[str], port: int, *, environment: dict[str, str]) -> collections.abc.Iterator[None]:
    """Run `command` from the moment it answers on `port` until the context ends, then end that process alone."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            if not _answers(process, port):
                log.seek(0)
                output = log.read().decode(errors="replace")[-2000:]
                raise S3ServerError(
                    f"{command[0]} did not answer on port {port} (exit code {process.poll()}):\n{output}"
                )
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Poll until the process accepts a connection; False when it has ended or the deadline has passed."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
