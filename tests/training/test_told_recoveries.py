import socket

import prometheus_client
import pytest

from imagetrain_api import progress, schema, worker_config
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
    assert "the report may lack recoveries" in caplog.text


def test_recoveries_of_a_supervisor_that_was_replaced_are_kept_by_the_checkpoints():
    first = schema.replace(RECOVERY, detected_at=5.0, resumed_at=7.0, dump_head="a long line")
    before = told_recoveries.Recoveries(lambda: (first,))
    before.refresh()
    second = schema.replace(RECOVERY, detected_at=9.0, resumed_at=12.0)
    after = told_recoveries.Recoveries(lambda: (second,))
    after.resume(before.as_json())
    after.refresh()
    assert [(each["detectedAt"], each["resumedAt"]) for each in after.as_json()] == [(5.0, 7.0), (9.0, 12.0)]
    assert not any(each.get("dumpHead") for each in after.as_json())


def test_supervisor_is_asked_until_the_newest_recovery_is_over():
    answers = [(RECOVERY,), (RECOVERY,), (schema.replace(RECOVERY, resumed_at=7.0),)]
    asked = []

    def read():
        asked.append(1)
        return answers[len(asked) - 1]

    known = told_recoveries.Recoveries(read)
    for _ in range(5):
        known.refresh()
    assert len(asked) == 3
    assert [each["resumedAt"] for each in known.as_json()] == [7.0]


def test_run_that_has_done_all_its_steps_has_got_over_its_last_recovery():
    kept = [schema.encode(schema.replace(RECOVERY, resumed_at=7.0)), schema.encode(RECOVERY)]
    assert [each["resumedAt"] for each in told_recoveries.close_last(kept, 9.0)] == [7.0, 9.0]
    assert told_recoveries.close_last([], 9.0) == []
