"""Disk caches for tests, what lies in their folders, and processes that use them."""

import pathlib
import subprocess
import sys
from typing import Any

import cache_processes
from imagetrain_trainer.data import cache_entry, disk_cache

MIB = 1 << 20


def open_cache(
    folder: pathlib.Path, max_bytes: int = 64 * MIB, scope: str = "sha256:one", **options: float
) -> disk_cache.DiskCache:
    """Open a cache of one data set."""
    return disk_cache.DiskCache(folder, max_bytes, scope, **options)


def files_of(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return the entries' paths, and the unfinished files'."""
    found = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    entries = [path for path in found if cache_entry.is_file_name(path.name)]
    return entries, [path for path in found if path.parent.name == "partial"]


def disk_bytes(folder: pathlib.Path) -> int:
    """Return what the cache's files take on the disk."""
    entries, partial = files_of(folder)
    return sum(cache_entry.footprint(path.stat().st_size) for path in entries + partial)


def start(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    """Start a process of `cache_processes`."""
    command = [sys.executable, cache_processes.__file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(*arguments: object) -> tuple[str, str]:
    """Run one to its end; return what it wrote, and its errors."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err[-2000:]
    return out.strip(), err
