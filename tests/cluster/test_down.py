"""What a cluster leaves behind: nothing, even when its starter was killed."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from imagetrain_cluster import cluster, processes, record, tools, wait

pytestmark = pytest.mark.usefixtures("cluster")  # it skips where no cluster can run

PACKAGE_FOLDER = pathlib.Path(cluster.__file__).parents[1]


def start_up(folder: pathlib.Path) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, "-m", "imagetrain_cluster", f"--folder={folder}", "up", "--nodes=1"]
    return subprocess.Popen(arguments, cwd=PACKAGE_FOLDER, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def listening_addresses() -> list[str]:
    listing = subprocess.run(["ss", "-Hltun"], capture_output=True, text=True, check=True).stdout
    return [line.split()[4] for line in listing.splitlines()]


def traces_of(cluster_id: str) -> list[str]:
    """Return what of a cluster can still be seen on the machine."""
    traces = [str(path) for path in pathlib.Path("/run/netns").glob(f"imagetrain-{cluster_id}-*")]
    traces += [str(path) for path in pathlib.Path("/sys/fs/cgroup").glob(f"**/imagetrain-{cluster_id}")]
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if cluster_id in words:
            traces.append(words)
    return traces


@pytest.mark.parametrize("last_started", ["relay-api", "kube-apiserver", "node-n1"])
def test_down_ends_all_that_a_killed_starter_has_left(tmp_path, last_started):
    folder = tmp_path / "cluster"
    starter = start_up(folder)
    records = record.Record(folder)
    wait.until(
        lambda: records.exists() and last_started in records.read().started,
        timeout_seconds=60,
        what=f"the start of {last_started}",
    )
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    state = records.read()

    cluster.Cluster(folder).down()

    assert not folder.exists()
    assert traces_of(state.id) == []
    assert not any(processes.is_running(process) for process in state.started.values())


def test_two_clusters_live_side_by_side_and_listen_on_loopback_alone(tmp_path, request):
    first = request.getfixturevalue("cluster")
    before = listening_addresses()
    second = cluster.Cluster.up(tmp_path / "cluster", nodes=1)
    try:
        added = [address for address in listening_addresses() if address not in before]
        assert len(added) == 1
        assert added[0].startswith("127.0.0.1:")
        assert [node["metadata"]["name"] for node in second.list("node")] == ["n1"]
        assert len(first.list("node")) == 2
    finally:
        second.down()

    assert first.is_running


def test_sweep_takes_down_the_cluster_of_an_ended_test_run(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "HOME", tmp_path)
    owner = subprocess.Popen([tools.find("busybox"), "sleep", "1000"])
    cluster.Cluster.up(tmp_path / "orphan", nodes=0, owner=owner.pid)

    assert cluster.sweep() == []
    owner.kill()
    owner.wait()
    assert cluster.sweep() == [tmp_path / "orphan"]
    assert not (tmp_path / "orphan").exists()


def test_sweep_removes_old_logs_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "HOME", tmp_path)
    for name, age_seconds in (("old", cluster.KEEP_LOGS_SECONDS + 60), ("new", 60), ("of-a-cluster", 10**6)):
        logs = tmp_path / name / "logs"
        logs.mkdir(parents=True)
        os.utime(logs, (time.time() - age_seconds,) * 2)
    record.Record(tmp_path / "of-a-cluster").create(record.State(id="000000", nodes=0, gpus={}))

    assert cluster.sweep() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "of-a-cluster"]


def test_processes_recorded_before_the_machine_booted_are_nobodys(tmp_path):
    records = record.Record(tmp_path)
    myself = processes.of(os.getpid())
    state = record.State(id="000000", nodes=0, gpus={}, boot="another", owner=myself, ready=True)
    state.started["etcd"] = myself
    records.create(state)

    assert records.read().started == {}
    assert not processes.is_running(records.read().owner)


def test_up_refuses_a_folder_that_holds_a_cluster(request):
    running = request.getfixturevalue("cluster")

    with pytest.raises(cluster.errors.ClusterError, match="holds a cluster already"):
        cluster.Cluster.up(running.kubeconfig.parent, nodes=0)


def test_down_of_nothing_does_nothing(tmp_path):
    cluster.Cluster(tmp_path / "none").down()


def test_up_and_down_of_a_control_plane_take_seconds(tmp_path):
    begun = time.monotonic()
    cluster.Cluster.up(tmp_path / "cluster", nodes=0).down()

    assert time.monotonic() - begun < 40  # 4 s on two idle cores
