"""What the publishing machine is, for the report: latencies mean little without it. No host or user names."""

import importlib.metadata
import os
import pathlib
import platform

_PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "numpy")


def describe_environment() -> dict[str, str]:
    """Return labels and values in the order to show them."""
    described = {
        "processor": _find_field(pathlib.Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores available": str(len(os.sched_getaffinity(0))),
        "memory": _find_memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            described[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {label: value for label, value in described.items() if value}


def _find_memory() -> str:
    kibibytes = _find_field(pathlib.Path("/proc/meminfo"), "MemTotal").split()
    return f"{int(kibibytes[0]) / 2**20:.1f} GiB" if kibibytes else ""


def _find_field(path: pathlib.Path, name: str) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
