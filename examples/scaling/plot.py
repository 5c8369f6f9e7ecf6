"""Pictures of fleets: what was offered, how many workers there were, what waited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from examples.scaling.day import DAY_S, Job
from examples.scaling.fleet import Outcome

_MINUTES = DAY_S // 60


def draw_week(
    outcomes: Mapping[str, Outcome], jobs: Iterable[Job], day: int, path: Path
) -> None:
    """Write one day of a week as a picture: workers and jobs that wait, by policy."""
    load: dict[int, float] = defaultdict(float)
    for job in jobs:
        load[int(job.at_s // 60) % _MINUTES] += job.service_s / 60
    figure = Figure(figsize=(10, 9), layout="constrained")
    offered, workers, waiting = figure.subplots(3, 1, sharex=True)
    hours = [minute / 60 for minute in range(_MINUTES)]
    offered.plot(hours, [load[m] for m in range(_MINUTES)], color="black", lw=0.6)
    offered.set_ylabel("offered, busy slots")
    for name, outcome in outcomes.items():
        minutes = outcome.minutes[day * _MINUTES : (day + 1) * _MINUTES]
        width = 2 if name == "shifter" else 1
        at = hours[: len(minutes)]
        label = f"{name}: {outcome.worker_hours:.0f} worker-hours in all"
        workers.plot(at, [m.workers for m in minutes], lw=width, label=label)
        waiting.plot(at, [m.waiting_low for m in minutes], lw=width)
    workers.set_ylabel("workers")
    workers.legend(fontsize="small")
    waiting.set_ylabel("LOW jobs that wait")
    waiting.set_xlabel(f"hour of day {day + 1}")
    figure.savefig(path, dpi=110)


def draw_play(report: dict[str, Any], path: Path) -> None:
    """Write a play of real processes as a picture."""
    seconds = report["seconds"]
    figure = Figure(figsize=(9, 7), layout="constrained")
    offered, workers, wait = figure.subplots(3, 1, sharex=True)
    offered.stairs([one["offered"] for one in seconds], fill=True, alpha=0.5)
    offered.set_ylabel("offered, jobs a second")
    workers.stairs([one["asked"] for one in seconds], label="asked for", ls=":")
    workers.stairs([one["workers"] for one in seconds], label="started", lw=2)
    workers.set_ylabel("workers")
    workers.legend(fontsize="small")
    wait.plot([one["wait_s"] for one in seconds], ".-")
    wait.set_ylabel("longest wait, s")
    wait.set_xlabel("second")
    figure.suptitle("{jobs} jobs, {lost} lost, {doubled} doubled".format(**report))
    figure.savefig(path, dpi=110)
