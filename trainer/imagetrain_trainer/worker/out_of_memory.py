"""Tells whether the kernel killed processes of this container because memory ran out (cgroups, versions 1 and 2)."""

import pathlib

_ROOT = pathlib.Path("/sys/fs/cgroup")
_MEMBERSHIP = pathlib.Path("/proc/self/cgroup")
_MACHINE = pathlib.Path("/proc/vmstat")


class KillCounter:
    """Counts processes killed for want of memory in this process's control group, or on the machine without one."""

    def __init__(
        self, root: pathlib.Path = _ROOT, membership: pathlib.Path = _MEMBERSHIP, machine: pathlib.Path = _MACHINE
    ) -> None:
        candidates = (*_group_files(root, membership), machine)
        self._path = next((path for path in candidates if _read(path) is not None), None)
        self._seen = self.read()

    def read(self) -> int:
        """Return the count; 0 where no counter can be read."""
        return (_read(self._path) or 0) if self._path else 0

    def has_risen(self) -> bool:
        """Tell whether it has risen since the start or the last call that said so."""
        count = self.read()
        before, self._seen = self._seen, count
        return count > before


def _group_files(root: pathlib.Path, membership: pathlib.Path) -> list[pathlib.Path]:
    """Return where the counter may lie: under the group's path, or at the root of a container's own mount."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number == "0":
            base, name = root, "memory.events"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.oom_control"
        else:
            continue
        found += [base / path.lstrip("/") / name, base / name]
    return found


def _read(path: pathlib.Path) -> int | None:
    try:
        rows = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
        return int(rows["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None
