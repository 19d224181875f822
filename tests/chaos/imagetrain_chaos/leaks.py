"""What a run must not leave: processes, listening sockets, files."""

import pathlib

from imagetrain_api import names
from imagetrain_chaos import runs

_LISTEN = "0A"  # proc(5), /proc/net/tcp: state of a listening socket


def find_leaks(run: runs.Run, output: pathlib.Path | None = None) -> list[str]:
    """Return one line for each thing that a finished run has left.

    Args:
        run: it has ended.
        output: where its `file://` output lies.
    """
    found = [f"process {each.pid}: {each.command!r}" for each in run.processes()]
    found += [f"port {port} is still listened on" for port in sorted(run.ports & listening_ports())]
    found += [f"scratch file {path}" for path in (run.reached / "scratch").rglob("*") if path.is_file()]
    if output is not None:
        found += [f"partial file {path}" for path in output.rglob("*#*")]
        folders = (output / names.RUNS_PREFIX / run.run_id / names.CHECKPOINTS_PREFIX).glob("step-*")
        found += [f"half a checkpoint {path}" for path in folders if not (path / "manifest.json").exists()]
    return found


def listening_ports() -> set[int]:
    """Return the TCP ports that are listened on in this network namespace."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found
