"""HTTP status of a worker. It reads shared memory only, so it answers while training hangs."""

import http.server
import ipaddress
import json
import logging
import sys
import threading
from collections.abc import Callable

import prometheus_client

from imagetrain_api import names, progress, schema

logger = logging.getLogger(__name__)

_READER_SECONDS = 30.0  # then a silent reader is gone, as one behind a cut wire: its thread must not stay


class StatusServer:
    """Serves until `close`; requests are answered on threads of their own."""

    def __init__(
        self,
        host: str,
        port: int,
        read: Callable[[], progress.Progress],
        metrics: prometheus_client.CollectorRegistry,
    ) -> None:
        """Bind and start.

        Args:
            host: the worker's address as its peers know it; a loopback address is bound alone, any other means all.
            port: TCP port; 0 picks a free one.
            read: gives the newest progress.
            metrics: what /metrics shows.

        Raises:
            OSError: the port is taken.
        """
        handler = _make_handler(read, metrics)
        self._server = _Server((bind_address(host), port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, _request: object, client_address: object) -> None:
        """Log what went wrong with an answer, unless the reader has gone away."""
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            logger.error("no answer to %s", client_address, exc_info=error)


def bind_address(host: str) -> str:
    """Return the address to listen on for a host by which peers know this one: itself if loopback, else all ("")."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        return host if ipaddress.ip_address(host).is_loopback else ""
    except ValueError:
        return ""


def _make_handler(
    read: Callable[[], progress.Progress], metrics: prometheus_client.CollectorRegistry
) -> type[http.server.BaseHTTPRequestHandler]:
    answers: dict[str, tuple[str, Callable[[], bytes]]] = {
        names.PATH_HEALTH: ("text/plain; charset=utf-8", lambda: b"ok\n"),
        names.PATH_METRICS: (prometheus_client.CONTENT_TYPE_LATEST, lambda: prometheus_client.generate_latest(metrics)),
        names.PATH_PROGRESS: ("application/json", lambda: json.dumps(schema.encode(read())).encode()),
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers GET requests from the table above."""

        timeout = _READER_SECONDS  # of each read and write

        def do_GET(self) -> None:
            """Answer one request."""
            content_type, answer = answers.get(self.path.partition("?")[0], ("", None))
            if answer is None:
                self.send_error(404)
                return
            body = answer()
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Keep scrapes out of the training log."""

    return Handler
