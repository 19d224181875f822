import pathlib

import pytest

from imagetrain_trainer.worker import out_of_memory

# Control group of the process, file of its counter under the mount: version 2 and 1, on a host and in a container.
PLACES = [
    pytest.param("0::/pod/worker", "pod/worker/memory.events", id="version 2"),
    pytest.param("0::/", "memory.events", id="version 2 with a namespace"),
    pytest.param("0::/../pod", "memory.events", id="version 2 with a parent's path"),
    pytest.param("4:memory:/pod", "memory/pod/memory.oom_control", id="version 1"),
    pytest.param("9:cpu,memory:/pod\n0::/", "memory/memory.oom_control", id="version 1 in a container"),
]


@pytest.mark.parametrize(("membership", "place"), PLACES)
def test_kill_is_counted(membership: str, place: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "cgroup").write_text(membership + "\n")
    (tmp_path / "vmstat").write_text("oom_kill 7\n")
    counted = tmp_path / "root" / place
    counted.parent.mkdir(parents=True)
    counted.write_text("low 0\noom 3\noom_kill 1\n")
    counter = out_of_memory.KillCounter(tmp_path / "root", tmp_path / "cgroup", tmp_path / "vmstat")
    assert not counter.has_risen()
    counted.write_text("low 0\noom 4\noom_kill 2\n")
    assert counter.has_risen()
    assert not counter.has_risen()


def test_machine_counts_where_there_is_no_control_group(tmp_path: pathlib.Path) -> None:
    (tmp_path / "vmstat").write_text("pgfault 1\noom_kill 7\n")
    counter = out_of_memory.KillCounter(tmp_path, tmp_path / "none", tmp_path / "vmstat")
    assert counter.read() == 7


def test_nothing_is_counted_where_nothing_can_be_read(tmp_path: pathlib.Path) -> None:
    counter = out_of_memory.KillCounter(tmp_path, tmp_path / "none", tmp_path / "none")
    assert not counter.has_risen()
