"""The table that the benchmark prints."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any

Figures = Mapping[str, Any]
OURS, PEER = "imagetrain", "training-operator"
_ABSENT = (KeyError, statistics.StatisticsError)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        read: from one operator's figures.
        most: what ours must not exceed, or nothing.
        least: what ours must reach, given both, or nothing.
    """

    text: str
    read: Callable[[Figures], float]
    most: float | None = None
    least: Callable[[Figures, Figures | None], float] | None = None
    digits: int = 1


def own_writes(figures: Figures, *, are_events: bool) -> float:
    """Return the operator's own writes per job."""
    own: Mapping[str, float] = figures["writes"].get(figures["user"], {})
    return sum(number for what, number in own.items() if what.endswith(" events") == are_events)


def _everybody(figures: Figures) -> float:
    return sum(sum(theirs.values()) for who, theirs in figures["writes"].items() if who != "bench-client")


def _own(kind: str) -> Callable[[Figures], float]:
    return lambda figures: sum(figures[kind].get(figures["user"], {}).values())


def _cost(figure: str) -> Callable[[Figures], float]:
    return lambda figures: figures["processes"][_name(figures)][figure]


def _name(figures: Figures) -> str:
    return OURS if figures["title"] == OURS else PEER


def _peer_rate(_: Figures, peer: Figures | None) -> float:
    return 0.0 if peer is None else peer["jobs"] / peer["seconds"]


ROWS = (
    Row(
        text="jobs succeeded",
        read=lambda figures: figures["succeeded"],
        least=lambda ours, _: ours["jobs"],
        digits=0,
    ),
    Row(text="jobs/s, first create to last success", read=lambda f: f["jobs"] / f["seconds"], least=_peer_rate),
    Row(text="  all created after, s", read=lambda figures: figures["create_seconds"]),
    Row(text="  all pods created after, s", read=lambda figures: figures["pods_created_seconds"]),
    Row(text="  all pods ended after, s", read=lambda figures: figures["pods_ended_seconds"]),
    Row(text="  all jobs succeeded after, s", read=lambda figures: figures["seconds"]),
    Row(text="operator's writes per job, but events", read=lambda f: own_writes(f, are_events=False), most=5, digits=2),
    Row(text="operator's events per job", read=lambda f: own_writes(f, are_events=True), most=3, digits=2),
    Row(text="operator's refused writes per job", read=_own("refused"), digits=2),
    Row(text="operator's reads per job", read=_own("reads"), digits=2),
    Row(text="writes per job by everybody", read=_everybody, digits=2),
    Row(text="operator's CPU per job, ms", read=_cost("cpu_ms_per_job"), most=20),
    Row(text="operator's RSS at the end, MiB", read=_cost("rss_mib")),
    Row(text="operator's peak RSS, MiB", read=_cost("peak_rss_mib"), most=120),
    Row(text="API server's CPU per job, ms", read=lambda f: f["processes"]["kube-apiserver"]["cpu_ms_per_job"]),
    Row(text="API server's allocations per job, MiB", read=lambda f: f["api_server_allocated_mib_per_job"]),
    Row(text="CPU per job by everybody, ms", read=lambda f: sum(p["cpu_ms_per_job"] for p in f["processes"].values())),
    Row(
        text="idle: create to pods created, median ms",
        read=lambda figures: statistics.median(figures["create_to_pods_ms"]),
        most=100,
    ),
    Row(text="  most", read=lambda figures: max(figures["create_to_pods_ms"])),
    Row(
        text="idle: last pod ended to job seen succeeded, median ms",
        read=lambda figures: statistics.median(figures["pods_ended_to_seen_ms"]),
        most=200,
    ),
    Row(text="  most", read=lambda figures: max(figures["pods_ended_to_seen_ms"])),
)


def show(figures: Mapping[str, Figures]) -> int:
    """Print the table and the writes behind it; return 1 when ours misses a figure, else 0."""
    ours, peer = figures.get(OURS), figures.get(PEER)
    columns = [one for one in (ours, peer) if one is not None]
    missed = 0
    print("\n" + _line("", [one["title"] for one in columns], "to reach"))
    for row in ROWS:
        values = [_value(row, one) for one in columns]
        if all(value is None for value in values):
            continue
        bound, is_reached = _judge(row, ours, peer)
        missed += not is_reached
        print(_line(row.text, ["" if v is None else f"{v:.{row.digits}f}" for v in values], bound))
    _show_parts(columns)
    return 1 if missed else 0


def _value(row: Row, figures: Figures) -> float | None:
    try:
        return row.read(figures)
    except _ABSENT:
        return None


def _judge(row: Row, ours: Figures | None, peer: Figures | None) -> tuple[str, bool]:
    """Return what is to be reached, with a verdict, and whether it is."""
    value = None if ours is None else _value(row, ours)
    if ours is None or value is None:
        return "", True
    if row.most is not None:
        is_reached = value <= row.most
        return f"<= {row.most:g}  {'yes' if is_reached else 'MISSED'}", is_reached
    if row.least is not None:
        least = row.least(ours, peer)
        is_reached = value >= least
        return f">= {least:.{row.digits}f}  {'yes' if is_reached else 'MISSED'}", is_reached
    return "", True


def _show_parts(columns: list[Figures]) -> None:
    """Print who wrote what, per job, and what each process of the control plane used."""
    for figures in columns:
        if "writes" not in figures:
            continue
        print(f"\nWrites per job with {figures['title']}:")
        for who, theirs in sorted(figures["writes"].items(), key=lambda one: -sum(one[1].values())):
            parts = ", ".join(f"{what} {number:.2f}" for what, number in theirs.items())
            print(f"  {who.removeprefix('system:serviceaccount:')}  {sum(theirs.values()):.2f}: {parts}")
        for who, theirs in figures["refused"].items():
            parts = ", ".join(f"{what} {number:.2f}" for what, number in theirs.items())
            print(f"  refused: {who.removeprefix('system:serviceaccount:')}: {parts}")
        costs = ", ".join(f"{name} {one['cpu_ms_per_job']:.1f}" for name, one in figures["processes"].items())
        print(f"CPU ms per job: {costs}")
        print(f"Operator's writes outside the jobs' namespace in {figures['window_seconds']:.0f} s: "
              f"{dict(figures['writes_elsewhere'])}")  # fmt: skip


def _line(text: str, values: list[str], bound: str) -> str:
    return f"{text:<56}" + "".join(f"{value:>26}" for value in values) + f"   {bound}"
