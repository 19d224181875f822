import os

import pytest

from imagetrain_api import names
from imagetrain_client.executor import placement


def test_endpoints_have_ports_of_their_own_below_those_of_outgoing_connections():
    endpoints = placement.loopback_endpoints(8)
    ports = [port for each in endpoints for port in (each.collective_port, each.status_port, each.rendezvous_port)]
    assert len(set(ports)) == 24
    assert all(20000 <= port < 32768 for port in ports)


@pytest.mark.parametrize(("cores", "workers", "threads"), [(2, 2, "1"), (8, 2, "4"), (2, 3, "1"), (1, 1, "1")])
def test_cores_are_shared_out(monkeypatch, cores, workers, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert placement.worker_environment(0, workers, 0, {})[names.ENV_CPU_THREADS] == threads


def test_a_number_of_threads_that_is_given_stands():
    given = {names.ENV_CPU_THREADS: "3"}
    assert names.ENV_CPU_THREADS not in placement.worker_environment(0, 2, 0, given)


@pytest.mark.parametrize(
    ("visible", "gpus", "rank", "seen"),
    [
        ("0,1,2,3", 2, 0, "0,1"),
        ("0,1,2,3", 2, 1, "2,3"),
        ("GPU-a,GPU-b", 1, 1, "GPU-b"),
        ("0", 1, 1, "-1"),  # too few: the worker itself refuses
        ("0,1", 0, 0, "-1"),  # a worker that asks for none sees none
        ("-1", 1, 0, "-1"),
        ("", 1, 0, "-1"),
    ],
)
def test_gpus_are_dealt_out_by_rank(visible, gpus, rank, seen):
    share = placement.worker_environment(rank, 2, gpus, {"CUDA_VISIBLE_DEVICES": visible})
    assert share["CUDA_VISIBLE_DEVICES"] == seen
