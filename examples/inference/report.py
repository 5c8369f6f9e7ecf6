"""From arrivals, answers and notes to numbers, all of them in the trace's own time."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from examples.inference.notes import Note
from examples.inference.trace import IN_TIME_S, PRIORITIES, Arrival

_MIDDLE = range(2, 56)
"""Minutes of full load, for peak and trough: the trace begins and ends ragged."""


class Played(NamedTuple):
    """One run.

    Attributes:
        arrivals: What was offered.
        speedup: Trace seconds a second, > 0.
        began_at: Monotonic seconds at the trace's beginning.
        accepted: Job id of each accepted arrival, to its job type.
        refused: Reason to how many were shed, or have an unknown outcome.
        notes: What the workers wrote.
        states: Of accepted jobs without a note: what the claim store says of them.
    """

    arrivals: Sequence[Arrival]
    speedup: float
    began_at: float
    accepted: Mapping[str, str]
    refused: Mapping[str, int]
    notes: Sequence[Note]
    states: Mapping[str, str]


def make_report(run: Played) -> dict[str, Any]:
    """Everything that is printed, saved and drawn."""
    done = [note for note in run.notes if note.outcome == "done"]
    times = Counter(note.job_id for note in done)
    ended = set(times) | {
        job_id for job_id, state in run.states.items() if state in _ENDED
    }
    return {
        "requests": len(run.arrivals),
        "speedup": run.speedup,
        "accepted": len(run.accepted),
        "refused": dict(run.refused),
        "done": len(times),
        "lost": len(set(run.accepted) - ended),
        "doubled": sum(1 for count in times.values() if count > 1),
        "unknown_ids": len(set(times) - set(run.accepted)),
        "priorities": {
            PRIORITIES[job].value: _priority(run, job, done) for job in PRIORITIES
        },
        **_loads(run, done),
    }


_ENDED = ("done", "dead", "expired", "cancelled", "discarded")


def _priority(run: Played, job: str, done: Iterable[Note]) -> dict[str, Any]:
    mine = [note for note in done if note.job == job]
    waits = sorted((n.started_at - n.arrived_at) * run.speedup for n in mine)
    offered = sum(1 for arrival in run.arrivals if arrival.job == job)
    in_time = sum(1 for wait_s in waits if wait_s <= IN_TIME_S[job])
    outcomes = Counter(
        state for job_id, state in run.states.items() if run.accepted[job_id] == job
    )
    return {
        "job": job,
        "offered": offered,
        "outcomes": {"done": len({note.job_id for note in mine}), **outcomes},
        "in_time_s": IN_TIME_S[job],
        "in_time_ratio": in_time / offered if offered else 1.0,
        "wait_s": {
            "p50": quantile(waits, 0.5),
            "p99": quantile(waits, 0.99),
            "max": quantile(waits, 1.0),
        },
        "wait_p99_s_by_minute": _by_minute(run, mine),
    }


def _by_minute(run: Played, notes: Iterable[Note]) -> list[float | None]:
    waits: dict[int, list[float]] = defaultdict(list)
    for note in notes:
        minute = int((note.arrived_at - run.began_at) * run.speedup // 60)
        waits[minute].append((note.started_at - note.arrived_at) * run.speedup)
    count = max(waits, default=-1) + 1
    return [quantile(sorted(waits[minute]), 0.99) for minute in range(count)]


def _loads(run: Played, done: Iterable[Note]) -> dict[str, Any]:
    offered: dict[int, float] = defaultdict(float)
    for arrival in run.arrivals:
        offered[int(arrival.at_s // 60)] += arrival.service_s / 60
    executed: dict[int, float] = defaultdict(float)
    for note in done:
        if note.job != "warm_up":
            begin_s = (note.started_at - run.began_at) * run.speedup
            end_s = (note.ended_at - run.began_at) * run.speedup
            spread(executed, begin_s, end_s)
    minutes = range(max((*offered, *executed), default=-1) + 1)
    return {
        "offered_slots": [round(offered[minute], 3) for minute in minutes],
        "executed_slots": [round(executed[minute], 3) for minute in minutes],
        "peak_to_trough": {
            "offered": peak_to_trough(offered),
            "executed": peak_to_trough(executed),
        },
    }


def spread(
    load: dict[int, float], begin_s: float, end_s: float, slots: float = 1.0
) -> None:
    """Add a busy slot, or a part of one, to the minutes it was busy in."""
    minute = max(0, int(begin_s // 60))
    while minute * 60 < end_s:
        busy_s = min(end_s, minute * 60 + 60) - max(begin_s, minute * 60)
        load[minute] += slots * busy_s / 60
        minute += 1


def peak_to_trough(load: Mapping[int, float]) -> float | None:
    """Of the minutes of full load; ``None`` if one of them had nothing to do."""
    values = [load[minute] for minute in _MIDDLE if load.get(minute)]
    return round(max(values) / min(values), 2) if len(values) == len(_MIDDLE) else None


def quantile(ascending: Sequence[float], q: float) -> float | None:
    """The smallest value that a share ``q`` does not exceed; ``None`` without values.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    if not ascending:
        return None
    return ascending[max(0, math.ceil(q * len(ascending)) - 1)]
