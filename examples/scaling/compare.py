"""Four ways to size a fleet of workers, judged in virtual time over a week.

    python -m examples.scaling.compare               (or: make compare ARGS=--scaling)

The policies: shifter's numbers, KEDA on the lag of Kafka, Kubernetes' autoscaler on the
use of a processor, and a number that is fixed at the peak. All of them size the same
fleet (`fleet`) for the same jobs (`day`). The lag threshold and the processor target
are tuned on the first day: the cheapest ones with which at least 99.9 % of HIGH jobs
start in time and no LOW job is late. So worker-hours are compared at equal lateness.
On Wednesday the circuit of the dependency of LOW jobs is open for 20 minutes.

Writes ``scaling.json``, ``scaling.md`` (a table) and ``scaling.png`` into ``--out``.
Ends with 1 if one of the `checks` does not hold.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from examples.inference.trace import Arrival, read_trace
from examples.scaling.day import DAY_S, Job, jobs_of_day
from examples.scaling.fleet import Autoscaler, Fleet, Outcome
from examples.scaling.planned import Planned
from examples.scaling.rivals import Fixed, Lag, Processor

SLOTS: Final = 4
START_UP_S: Final = 30.0
FLOOR, CEILING = 1, 100
_AT_FIRST: Final = 4
_OUTAGES: Final = ((2 * DAY_S + 54_240.0, 2 * DAY_S + 55_440.0),)
_LAGS: Final = (1, 2, 3, 4, 5, 6, 8)
_TARGETS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)

IN_TIME: Final = 0.999
"""Part of HIGH jobs that must start in time."""
CHEAPER: Final = 0.75
"""Most worker-hours, as a part of those of KEDA on lag."""

COLUMNS: Final = (
    *("policy", "setting", "days", "high_in_time", "low_late", "worker_hours"),
    *("scale_changes", "wasted_worker_s", "scale_outs_while_down"),
)


class Policy(NamedTuple):
    """A policy with its setting."""

    name: str
    setting: str
    make: Callable[[], Autoscaler]


def ours() -> Policy:
    """shifter, with its defaults and the start-up time of a worker."""
    setting = f"scale_start_up {START_UP_S:g}s"
    return Policy(
        "shifter", setting, lambda: Planned(SLOTS, START_UP_S, FLOOR, CEILING)
    )


def lag(threshold: int) -> Policy:
    """KEDA on lag."""
    return Policy(
        "KEDA on lag",
        f"lagThreshold {threshold}",
        lambda: Lag(threshold, FLOOR, CEILING),
    )


def processor(target: float) -> Policy:
    """Kubernetes' autoscaler on the use of a processor."""
    return Policy(
        "HPA on CPU",
        f"averageUtilization {target:.0%}",
        lambda: Processor(target, SLOTS, FLOOR, CEILING),
    )


def fixed(arrivals: Sequence[Arrival]) -> Policy:
    """As many workers as the busiest minute needs."""
    load: dict[int, float] = defaultdict(float)
    for job in jobs_of_day(arrivals, 0):
        load[int(job.at_s // 60)] += job.service_s / 60
    workers = math.ceil(max(load.values()) / SLOTS)
    return Policy("fixed at peak", f"{workers} workers", lambda: Fixed(workers))


def judge(policy: Policy, jobs: Iterable[Job], days: float) -> Outcome:
    """Play jobs under a policy."""
    workers = policy.make()
    at_first = workers.workers if isinstance(workers, Fixed) else _AT_FIRST
    fleet = Fleet(SLOTS, START_UP_S, workers, _OUTAGES, workers=at_first)
    return fleet.play(jobs, days * DAY_S)


def cheapest(policies: Iterable[Policy], jobs: Sequence[Job], days: float) -> Policy:
    """The cheapest policy that is in time; the one with least late where none is."""
    found = [(policy, judge(policy, jobs, days)) for policy in policies]
    in_time = [one for one in found if is_in_time(one[1])]
    if in_time:
        return min(in_time, key=lambda one: one[1].worker_hours)[0]
    return min(found, key=lambda one: one[1].late)[0]


def is_in_time(outcome: Outcome) -> bool:
    """Whether 99.9 % of HIGH jobs and all LOW jobs started in time."""
    return high_in_time(outcome) >= IN_TIME and not outcome.late[1]


def high_in_time(outcome: Outcome) -> float:
    """Part of HIGH jobs that started in time; 1 without any."""
    offered, late = outcome.offered[0], outcome.late[0]
    return 1 - late / offered if offered else 1.0


def row(policy: Policy, outcome: Outcome, days: float) -> dict[str, Any]:
    """One row of the table."""
    values = (
        policy.name,
        policy.setting,
        days,
        round(high_in_time(outcome), 5),
        outcome.late[1],
        round(outcome.worker_hours, 1),
        outcome.changes,
        round(outcome.wasted_s),
        outcome.scale_outs_down,
    )
    return dict(zip(COLUMNS, values, strict=True))


def checks(day: Sequence[Any], whole: Sequence[Any]) -> dict[str, bool]:
    """What must hold of shifter, by rows of the first day and of all days."""
    mine, of_lag = day[0], day[1]
    return {
        f"at least {IN_TIME:.1%} of HIGH jobs in time on the recorded day": (
            mine["high_in_time"] >= IN_TIME
        ),
        "no LOW job late": not any(one["low_late"] for one in (mine, whole[0])),
        f"at most {CHEAPER:g} of the worker-hours of KEDA on lag": (
            mine["worker_hours"] <= CHEAPER * of_lag["worker_hours"]
        ),
        "no scale-out while a circuit is open": not whole[0]["scale_outs_while_down"],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a table in Markdown."""
    lines = [[str(one[column]) for column in COLUMNS] for one in rows]
    head = [list(COLUMNS), ["---"] * len(COLUMNS)]
    return "\n".join(f"| {' | '.join(line)} |" for line in head + lines) + "\n"


def _week(arrivals: Sequence[Arrival], days: float) -> Iterator[Job]:
    return itertools.chain.from_iterable(
        jobs_of_day(arrivals, day) for day in range(math.ceil(days))
    )


def compare(arrivals: Sequence[Arrival], days: float) -> tuple[dict[str, Any], Any]:
    """The report, and the outcomes of all days by policy."""
    first = min(days, 1.0)
    jobs = list(jobs_of_day(arrivals, 0))
    policies = [
        ours(),
        cheapest(map(lag, _LAGS), jobs, first),
        cheapest(map(processor, _TARGETS), jobs, first),
        fixed(arrivals),
    ]
    of_day = [row(one, judge(one, jobs, first), first) for one in policies]
    outcomes = {one.name: judge(one, _week(arrivals, days), days) for one in policies}
    whole = [row(one, outcomes[one.name], days) for one in policies]
    report = {"rows": of_day + whole, "checks": checks(of_day, whole)}
    return report, outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.scaling.compare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--days", type=float, default=7.0, help="only so many, > 0")
    parser.add_argument("--out", type=Path, default=Path("build"))
    options = parser.parse_args(arguments)
    if not 0 < options.days <= 7:
        parser.error("--days must be above 0 and at most 7")
    arrivals = read_trace()
    report, outcomes = compare(arrivals, options.days)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "scaling.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "scaling.md").write_text(table(report["rows"]))
    sys.stdout.write(table(report["rows"]))
    for text, holds in report["checks"].items():
        sys.stdout.write(f"{'holds' if holds else 'does NOT hold'}: {text}\n")
    from examples.scaling.plot import draw_week  # noqa: PLC0415  # 0.5 s

    day = min(2, math.ceil(options.days) - 1)
    draw_week(outcomes, jobs_of_day(arrivals, day), day, options.out / "scaling.png")
    sys.stderr.write(f"written: {path}, {path.stem}.md, {path.stem}.png\n")
    return 0 if all(report["checks"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
