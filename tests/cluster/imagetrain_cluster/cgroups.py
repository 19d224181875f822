"""The nodes' control groups: `/imagetrain-ID/nI` in each hierarchy. kubelet wants its root group to exist."""

import collections.abc
import contextlib
import functools
import os
import pathlib

from imagetrain_cluster import errors, wait

_MOUNT = pathlib.Path("/sys/fs/cgroup")
_REMOVE_TIMEOUT_SECONDS = 20.0
_NODE_CONTROLLERS = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")
"""What kubelet and the containers use: pkg/kubelet/cm/cgroup_v2_manager_linux.go."""
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def name(cluster_id: str, node: int) -> str:
    """Return the path of a node's group, as kubelet's `cgroupRoot` has it."""
    return f"/imagetrain-{cluster_id}/n{node}"


def create(cluster_id: str, node: int) -> None:
    """Make a node's groups."""
    if _is_unified():
        # Version 2: a group has the controllers that its parents pass on.
        parent = _MOUNT / f"imagetrain-{cluster_id}"
        _pass_controllers_on(_MOUNT)
        (parent / f"n{node}").mkdir(parents=True, exist_ok=True)
        _pass_controllers_on(parent)
        return
    for hierarchy in _hierarchies():
        parent = hierarchy / f"imagetrain-{cluster_id}"
        for folder in (parent, parent / f"n{node}"):
            folder.mkdir(exist_ok=True)
            for file_name in _CPUSET_FILES:
                # Version 1: a new cpuset is empty, and takes no process until it has processors and memory.
                inherited = folder.parent / file_name
                if inherited.exists() and not (folder / file_name).read_text(encoding="ascii").strip():
                    (folder / file_name).write_text(inherited.read_text(encoding="ascii"), encoding="ascii")


def remove(cluster_id: str, node: int | None = None) -> None:
    """Remove a node's groups, or those of the whole cluster, once their processes have ended."""
    relative = f"imagetrain-{cluster_id}" if node is None else f"imagetrain-{cluster_id}/n{node}"
    groups = [hierarchy / relative for hierarchy in _hierarchies()]
    for group in groups:
        wait.until(
            functools.partial(_remove_tree, group),
            timeout_seconds=_REMOVE_TIMEOUT_SECONDS,
            what=f"the removal of {group}",
        )


def _remove_tree(group: pathlib.Path) -> bool:
    """Remove a group from its leaves up; return whether it has gone: while its processes end, it cannot."""
    for folder, _folders, _files in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            pathlib.Path(folder).rmdir()
    return not group.exists()


def _is_unified() -> bool:
    return (_MOUNT / "cgroup.controllers").exists()


def _hierarchies() -> collections.abc.Sequence[pathlib.Path]:
    """Return the roots of the hierarchies: one in version 2, one for each controller in version 1."""
    if _is_unified():
        return [_MOUNT]
    # cpuacct may be a link to cpu,cpuacct; the folder of a hierarchy that is not mounted holds no such file.
    found = [path for path in sorted(_MOUNT.iterdir()) if (path / "cgroup.procs").exists() and not path.is_symlink()]
    if not found:
        raise errors.ClusterError(f"{_MOUNT} must hold mounted control groups, but none is there.")
    return found


def _pass_controllers_on(group: pathlib.Path) -> None:
    available = (group / "cgroup.controllers").read_text(encoding="ascii").split()
    for controller in _NODE_CONTROLLERS:
        if controller in available:
            try:
                (group / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
            except OSError as error:
                raise errors.ClusterError(f"{group} must pass {controller} on to its children: {error}.") from error
