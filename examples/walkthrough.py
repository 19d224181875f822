"""What the demos share: an S3 server of their own, and the way from packed images to predictions by the real command.

The server (moto, in memory, loopback) stands in for Amazon S3; nothing here would change with a real bucket but the
variables AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID.
"""

import collections.abc
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEMO_FOLDER = ROOT / ".demo"
BUCKET = "demo"
_SCRIPTS = pathlib.Path(sysconfig.get_path("scripts"))
FindImages = collections.abc.Callable[[], list[pathlib.Path]]
_START_TIMEOUT_SECONDS = 60.0


def say(text: str) -> None:
    """Announce a step."""
    print(f"\n==> {text}", flush=True)


def imagetrain(*arguments: str | pathlib.Path) -> None:
    """Run the command `imagetrain` of this environment, and end the demo when it fails."""
    words = [
        os.path.relpath(argument, ROOT) if isinstance(argument, pathlib.Path) else argument for argument in arguments
    ]
    print(f"$ imagetrain {' '.join(words)}", flush=True)
    command = subprocess.Popen([str(_SCRIPTS / "imagetrain"), *words], cwd=ROOT)
    try:
        status = command.wait()
    except KeyboardInterrupt:  # the terminal has told the command too: let it save
        status = command.wait()
    if status:
        sys.exit(status)


@contextlib.contextmanager
def s3_server() -> collections.abc.Iterator[None]:
    """Run an S3 server with one bucket, and point this process and its children at it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(_SCRIPTS / "moto_server"), "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for_port(server, port)
            os.environ |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "demo",
                "AWS_SECRET_ACCESS_KEY": "demo",
                "AWS_REGION": "us-east-1",
                "NO_PROXY": "127.0.0.1",
            }
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
            yield
        finally:
            server.terminate()
            server.wait()


def train_and_predict(name: str, source: pathlib.Path, split: str, find_held_out: FindImages) -> None:
    """Pack a source, run `examples/NAME.yaml`, predict held-out images, and keep models and report.

    Args:
        name: of the example.
        source: what `imagetrain data pack` reads.
        split: shares of train, validation and test; a test split that the source brings is kept.
        find_held_out: finds images of the test split, once the data set is packed.
    """
    data_uri, models_uri = f"s3://{BUCKET}/datasets/{name}/", f"s3://{BUCKET}/models/{name}/"
    manifest = f"examples/{name}.yaml"
    say("Packing the images into a data set on S3")
    imagetrain("data", "pack", source, data_uri, "--name", name, "--split", split)
    imagetrain("data", "info", data_uri)
    say(f"Running {manifest} with two workers")
    imagetrain("run", manifest)
    say("Predicting three images of the test split: full-integer TensorFlow Lite, then SavedModel")
    held_out = find_held_out()
    for model_format in ("tflite_int8", "saved_model"):
        imagetrain("predict", models_uri, *held_out, "--format", model_format)
    kept = DEMO_FOLDER / name / "models"
    shutil.rmtree(kept, ignore_errors=True)
    imagetrain("models", "download", models_uri, "--to", kept)
    say(f"Report: {kept / 'report.html'}")


def _wait_for_port(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit("The S3 server did not start. Run: make venv")
