"""The report as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLOURS = {"HIGH": "tab:red", "LOW": "tab:blue"}
_ABOVE: dict[str, Any] = {
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 3,
    "frameon": False,
}


def draw(report: dict[str, Any], path: Path) -> None:
    """Write load and waits per minute of the trace as a PNG."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    load, wait = figure.subplots(2, 1, sharex=True)
    slots = report["slots"]
    load.stairs(report["executed_slots"], fill=True, alpha=0.4, label="executed")
    load.stairs(report["offered_slots"], color="black", label="offered")
    load.axhline(slots, color="grey", ls="--", lw=1, label=f"{slots} slots")
    load.set_ylabel("slots busy, mean of the minute")
    load.legend(**_ABOVE)
    for priority, row in report["priorities"].items():
        share = f"{row['in_time_ratio']:.1%} within {row['in_time_s']:g} s"
        label = f"{priority} ({row['job']}), {share}"
        # a minute in which nothing arrived is a gap, not a zero
        waits = [math.nan if w is None else w for w in row["wait_p99_s_by_minute"]]
        wait.plot(waits, ".-", label=label, color=_COLOURS[priority])
    wait.axhline(1.0, color="grey", ls="--", lw=1)
    wait.set_yscale("log")
    wait.set_ylabel("wait p99, s of the trace")
    wait.set_xlabel("minute of the trace")
    wait.legend(**_ABOVE)
    figure.suptitle(
        f"{report['requests']} requests at {report['speedup']:g} times their speed, "
        f"{slots} slots in {report['processes']} processes; "
        f"lost {report['lost']}, doubled {report['doubled']}"
    )
    figure.savefig(path, dpi=110)


def draw_policies(reports: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the executed load of each policy, one panel for each size of backend."""
    figure = Figure(figsize=(10, 4 * len(reports)), layout="constrained")
    panels = figure.subplots(len(reports), 1, sharex=True, squeeze=False)[:, 0]
    for report, panel in zip(reports, panels, strict=True):
        on_time = {
            (row["policy"], row["priority"]): row["on_time_ratio"]
            for row in report["rows"]
        }
        for policy, load in report["load"].items():
            shares = (
                f"{priority} {ratio:.1%}"
                for priority in ("HIGH", "LOW")
                if (ratio := on_time[policy, priority]) is not None
            )
            label = f"{policy}: {', '.join(shares)} on time"
            panel.stairs(load, label=label, lw=2 if policy == "shifter" else 1)
        panel.stairs(report["offered"], color="black", lw=0.8, ls=":", label="offered")
        panel.axhline(report["slots"], color="grey", ls="--", lw=1)
        panel.set_ylabel(f"slots busy of {report['slots']}")
        panel.legend(fontsize="small")
    panels[-1].set_xlabel("minute of the trace")
    figure.savefig(path, dpi=110)
