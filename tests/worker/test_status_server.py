import json
import re
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import prometheus_client
import pytest
from prometheus_client import parser

from imagetrain_api import progress
from imagetrain_trainer.worker import metrics, status_server

REPORT = progress.Progress(
    phase="training",
    step=30,
    images=1920,
    images_per_second=512.5,
    loss=0.25,
    input_stall_seconds=1.5,
    step_seconds_sum=3.0,
    step_seconds_buckets=(0, 0, 0, 10, 20, 0, 0, 0, 0, 0, 0, 0, 0),
    seconds_by_phase={"starting": 2.0, "training": 3.5},
    updated_at=1.0,
)


@pytest.fixture
def url() -> Iterator[str]:
    registry = metrics.build_registry("vision", "digits", lambda: REPORT)
    server = status_server.StatusServer("127.0.0.1", 0, lambda: REPORT, registry)
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def test_progress_is_the_contracts_document(url: str) -> None:
    assert json.loads(get(f"{url}/progress"))["imagesPerSecond"] == 512.5


def test_health_answers(url: str) -> None:
    assert get(f"{url}/healthz") == "ok\n"


def test_reader_that_goes_away_is_no_error(capsys, caplog, monkeypatch) -> None:
    is_gone, is_over = threading.Event(), threading.Event()

    def read() -> progress.Progress:
        assert is_gone.wait(30)
        return REPORT

    server = status_server.StatusServer("127.0.0.1", 0, read, prometheus_client.CollectorRegistry())
    monkeypatch.setattr(server._server, "close_request", lambda request: (request.close(), is_over.set()))
    try:
        with socket.create_connection(("127.0.0.1", server.port)) as reader:
            reader.sendall(b"GET /progress HTTP/1.0\r\n\r\n")
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST
        is_gone.set()
        assert is_over.wait(30)
    finally:
        server.close()
    assert not caplog.records
    assert capsys.readouterr().err == ""


def test_unknown_path_is_not_found(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        get(f"{url}/secrets")
    caught.value.close()


def test_metrics_are_what_prometheus_parses(url: str) -> None:
    families = {family.name: family for family in parser.text_string_to_metric_families(get(f"{url}/metrics"))}
    samples = {(s.name, s.labels.get("phase", s.labels.get("le", ""))): s for f in families.values() for s in f.samples}
    assert samples["imagetrain_images_total", ""].value == 1920
    assert samples["imagetrain_images_total", ""].labels == {"namespace": "vision", "job": "digits"}
    assert samples["imagetrain_step_seconds_bucket", "0.05"].value == 10
    assert samples["imagetrain_step_seconds_bucket", "+Inf"].value == 30
    assert samples["imagetrain_step_seconds_count", ""].value == 30
    assert samples["imagetrain_step_seconds_sum", ""].value == 3.0
    assert samples["imagetrain_phase_seconds_total", "training"].value == 3.5


def test_figure_that_is_not_known_yet_is_left_out(url: str) -> None:
    text = get(f"{url}/metrics")
    assert "imagetrain_loss{" in text
    assert "imagetrain_validation_accuracy" not in text


def test_every_own_metric_has_the_products_prefix(url: str) -> None:
    names = set(re.findall(r"^# TYPE (\S+)", get(f"{url}/metrics"), re.MULTILINE))
    assert {name for name in names if not name.startswith("process_")} == {
        name for name in names if name.startswith("imagetrain_")
    }
