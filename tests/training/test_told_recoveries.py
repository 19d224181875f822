import socket

import prometheus_client
import pytest

from imagetrain_api import progress, worker_config
from imagetrain_trainer.training import told_recoveries
from imagetrain_trainer.worker import status_server

RECOVERY = progress.Recovery(generation=1, reason="Killed", rank=1, message="Rank 1 was killed.", step=12)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "digits-0-0.digits"])
def test_recoveries_come_from_the_supervisor_of_this_worker(host):
    told = progress.Progress(recoveries=(RECOVERY,))
    server = status_server.StatusServer(host, 0, lambda: told, prometheus_client.CollectorRegistry())
    try:
        endpoint = worker_config.WorkerEndpoint(host=host, collective_port=1, status_port=server.port)
        assert told_recoveries.read_recoveries(endpoint) == (RECOVERY,)
    finally:
        server.close()


def test_a_supervisor_that_does_not_answer_is_logged(caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        endpoint = worker_config.WorkerEndpoint(host="127.0.0.1", collective_port=1, status_port=taken.getsockname()[1])
        assert told_recoveries.read_recoveries(endpoint) == ()
    assert "the report will list no recoveries" in caplog.text
