from typing import Any

import pytest

from imagetrain_api import job, names, plan, worker_config
from imagetrain_trainer.rendezvous import settings


def build(**recovery: Any) -> settings.Settings:
    decoded = job.decode_job(
        {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": "digits"},
            "spec": {
                "workers": 4,
                "data": {"uri": "file:///data/"},
                "model": {"architecture": "small_cnn", "inputShape": [8, 8, 1]},
                "output": {"uri": "file:///out/"},
                "recovery": recovery,
            },
        }
    )
    endpoints = plan.kubernetes_endpoints(decoded)
    return settings.build_settings(worker_config.WorkerConfig(run_id="r1", job=decoded, endpoints=endpoints))


def test_group_needs_all_its_workers_unless_the_job_says_how_many_suffice() -> None:
    assert build().needed == 4
    elastic = build(minWorkers=2, elasticTimeoutSeconds=7)
    assert (elastic.workers, elastic.needed, elastic.elastic_timeout_seconds) == (4, 2, 7)


def test_limits_are_those_of_the_job() -> None:
    made = build(maxRestarts=3, memberTimeoutSeconds=20, startTimeoutSeconds=30)
    assert (made.max_restarts, made.member_timeout_seconds, made.start_timeout_seconds) == (3, 20, 30)


@pytest.mark.parametrize("needed", [0, 5])
def test_needed_members_are_from_one_to_all(needed: int) -> None:
    with pytest.raises(ValueError, match="min_members must be from 1 to 4"):
        settings.Settings(workers=4, min_members=needed)
