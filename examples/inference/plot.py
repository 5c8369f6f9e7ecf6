"""The report as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLOURS = {"HIGH": "tab:red", "LOW": "tab:blue"}


def draw(report: dict[str, Any], path: Path) -> None:
    """Write load and waits per minute of the trace as a PNG."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    load, wait = figure.subplots(2, 1, sharex=True)
    slots = report["slots"]
    load.step(*_points(report["offered_slots"]), where="post", label="offered", lw=1)
    load.step(*_points(report["executed_slots"]), where="post", label="executed", lw=2)
    load.axhline(slots, color="grey", ls="--", lw=1, label=f"{slots} slots")
    load.set_ylabel("slots busy, mean of the minute")
    load.set_ylim(bottom=0)
    load.legend(loc="upper right", ncols=3)
    for priority, row in report["priorities"].items():
        share = f"{row['in_time_ratio']:.1%} within {row['in_time_s']:g} s"
        label = f"{priority} ({row['job']}), {share}"
        minutes, waits = _points(row["wait_p99_s_by_minute"])
        wait.step(minutes, waits, where="post", label=label, color=_COLOURS[priority])
    wait.axhline(1.0, color="grey", ls="--", lw=1)
    wait.set_yscale("log")
    wait.set_ylabel("wait p99, s of the trace")
    wait.set_xlabel("minute of the trace")
    wait.legend(loc="upper right")
    figure.suptitle(
        f"{report['requests']} requests at {report['speedup']:g} times their speed, "
        f"{slots} slots in {report['processes']} processes; "
        f"lost {report['lost']}, doubled {report['doubled']}"
    )
    figure.savefig(path, dpi=110)


def _points(values: list[float | None]) -> tuple[list[int], list[float]]:
    pairs = [(minute, v) for minute, v in enumerate(values) if v is not None]
    return [minute for minute, _ in pairs], [value for _, value in pairs]
