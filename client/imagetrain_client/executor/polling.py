"""`/progress` of all ranks, read on a thread of its own so that a stuck worker holds nothing else up."""

import http.client
import json
import threading
import types
from collections.abc import Mapping, Sequence
from typing import Self

from imagetrain_api import names, schema
from imagetrain_api import progress as progress_module
from imagetrain_api.worker_config import WorkerEndpoint

POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 1.0  # the worker answers from memory over loopback
_MAX_ANSWER_BYTES = 1 << 20


def fetch_progress(endpoint: WorkerEndpoint) -> progress_module.Progress | None:
    """Return what a worker tells of itself, or None when it does not answer (yet, or any more)."""
    # http.client and not urllib: a proxy from the environment must not be asked for this machine's own ports.
    connection = http.client.HTTPConnection(endpoint.host, endpoint.status_port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", names.PATH_PROGRESS)
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            return None
        document = json.loads(response.read(_MAX_ANSWER_BYTES))
        return schema.decode(progress_module.Progress, document)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


class ProgressPoller:
    """Keeps the newest progress of each rank; a context manager that stops its thread."""

    def __init__(self, endpoints: Sequence[WorkerEndpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._newest: dict[int, progress_module.Progress] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=_TIMEOUT_SECONDS * (len(self._endpoints) + 1))

    def newest(self) -> Mapping[int, progress_module.Progress]:
        """Return the newest progress by rank; a rank that never answered is missing."""
        with self._lock:
            return dict(self._newest)

    def _poll(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            for rank, endpoint in enumerate(self._endpoints):
                progress = fetch_progress(endpoint)
                if progress is not None:
                    with self._lock:
                        self._newest[rank] = progress
