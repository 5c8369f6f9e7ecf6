"""Pictures of fleets: what was offered, how many workers there were, what waited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

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
