"""What a run must not leave: processes, listening sockets, scratch files, aborted saves."""

import collections
import pathlib

from imagetrain_api import names
from imagetrain_chaos import runs
from imagetrain_trainer.storage import local
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.training import checkpoint_garbage, checkpoint_manifest

_LISTEN = "0A"  # proc(5), /proc/net/tcp: state of a listening socket
_ABORTED_SECONDS = 2 * checkpoint_garbage.FENCED_SECONDS  # by then a later save has collected it


def find_leaks(run: runs.Run, output_uri: str) -> list[str]:
    """Return one line for each thing that a finished run has left."""
    found = [f"process {each.pid}: {each.command!r}" for each in run.processes()]
    found += [f"port {port} is still listened on" for port in sorted(run.ports & listening_ports())]
    found += [f"scratch file {path}" for path in (run.reached / "scratch").rglob("*") if path.is_file()]
    found += [f"file of a killed writer: {path}" for path in find_partial_files(output_uri)]
    return found + [f"half a checkpoint: {folder}" for folder in find_aborted_saves(output_uri, run.run_id)]


def find_partial_files(output_uri: str) -> list[pathlib.Path]:
    """Return what writers that were killed have left in an output that is a folder."""
    store = storage.open_store(output_uri)
    return sorted(store.root.rglob("*#*")) if isinstance(store, local.LocalStore) else []


def listening_ports() -> set[int]:
    """Return the TCP ports that are listened on in this network namespace."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def find_aborted_saves(output_uri: str, run_id: str) -> list[str]:
    """Return the folders of saves that were never completed, and that nobody has collected in due time."""
    run_store = storage.open_store(output_uri).child(names.run_prefix(run_id))
    newest: dict[str, float] = collections.defaultdict(float)
    complete = set()
    for info in run_store.child(names.CHECKPOINTS_PREFIX).list():
        folder, _, name = info.key.rpartition("/")
        if checkpoint_manifest.parse_place(folder) is not None:
            newest[folder] = max(newest[folder], info.modified_at)
            complete |= {folder} if name == checkpoint_manifest.MANIFEST_KEY else set()
    last = max(newest.values(), default=0.0)
    return sorted(folder for folder, at in newest.items() if folder not in complete and last - at > _ABORTED_SECONDS)
