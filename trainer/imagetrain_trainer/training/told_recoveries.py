"""What this worker's supervisor knows of the run's recoveries in place: the training process cannot know, it is new."""

import http.client
import ipaddress
import json
import logging

from imagetrain_api import names, progress, schema, worker_config

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_TIMEOUT_SECONDS = 3.0  # the supervisor answers from memory
_MAX_ANSWER_BYTES = 1 << 20


def read_recoveries(endpoint: worker_config.WorkerEndpoint) -> tuple[progress.Recovery, ...]:
    """Return the newest recoveries, oldest first; none where the supervisor of this worker does not answer."""
    connection = http.client.HTTPConnection(_own_address(endpoint.host), endpoint.status_port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", names.PATH_PROGRESS)
        document = json.loads(connection.getresponse().read(_MAX_ANSWER_BYTES))
        return schema.decode(progress.Progress, document).recoveries
    except (OSError, http.client.HTTPException, ValueError) as error:
        logger.warning("the report will list no recoveries, for the supervisor does not tell them: %s", error)
        return ()
    finally:
        connection.close()


def _own_address(host: str) -> str:
    """Return where this worker itself reaches its supervisor, which listens on all addresses or on a loopback one."""
    try:
        return host if ipaddress.ip_address(host).is_loopback else _LOOPBACK
    except ValueError:
        return _LOOPBACK
