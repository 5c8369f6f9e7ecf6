"""What the page shows of a reading besides its answers: rows of sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from shifter.fleet.service_reports import FlowRow
from shifter.fleet.view import BudgetRow, CircuitRow
from shifter.model.lane import Lane, Priority
from shifter.ops.answers import (
    QUESTIONS,
    Answer,
    Grade,
    LaneView,
    is_unhealthy,
    view_lane,
)
from shifter.ops.changes import RecentChanges
from shifter.ops.status import LaneRow, Overview
from shifter.ops.texts import age_text

_NAMED: Final = 3
"""Dependencies that a sentence names; the others are counted."""
_MINUTE_S: Final = 60.0
SHOWN_LANES: Final = 50
"""Lanes of the first page; the others are on a page of their own."""


class DependencyView(NamedTuple):
    """One dependency as a row.

    Attributes:
        row: As in the status.
        budget: Its retry budget, if it is reported.
        is_unhealthy: Whether calls are kept back.
        since_ms: Since when, epoch milliseconds; ``None`` where that is not known.
        waiting: Jobs in the lanes of the jobs that call it.
        delayed: Of those lanes, jobs that wait for their due time.
        eta_s: Seconds until these lanes are empty; ``None`` if not known, and while
            calls are kept back: the jobs that end then are those that fail.
        lanes: Those lanes, as ``queue/priority``.
    """

    row: CircuitRow
    budget: BudgetRow | None
    is_unhealthy: bool
    since_ms: int | None
    waiting: int
    delayed: int
    eta_s: float | None
    lanes: tuple[str, ...]


class PriorityView(NamedTuple):
    """The flow of one priority: what came in, what was done with it, what is left.

    Attributes:
        priority: ``CRITICAL`` … ``LOW``.
        flow: What services answered within the last minute; ``None`` while no service
            reports an answer.
        done: Jobs that workers ended, a minute.
        waiting: Records that wait.
        delayed: Records that wait for their due time.
        running: Attempts that run.
        oldest_s: Age of the oldest waiting record.
    """

    priority: str
    flow: FlowRow | None
    done: int
    waiting: int
    delayed: int
    running: int
    oldest_s: float | None


def is_idle(lane: LaneView) -> bool:
    """Whether nothing waits, runs or ends in a lane."""
    row = lane.row
    return not (row.waiting or row.delayed or row.running or row.rate_per_s)


def with_dependencies(
    answers: Sequence[Answer],
    dependencies: Sequence[DependencyView],
    lanes: Sequence[LaneView],
) -> list[Answer]:
    """The answers, where the last one names the dependencies that jobs wait for.

    Args:
        answers: As `shifter.ops.answers.answers_of` gives them.
        dependencies: As `view_dependencies` gives them.
        lanes: All lanes.
    """
    held = [view for view in dependencies if view.is_unhealthy and view.waiting]
    if not held:
        return list(answers)
    details = [
        f"{view.waiting:,} jobs wait for {view.row.dependency} to be called again."
        for view in held[:_NAMED]
    ]
    theirs = {name for view in held for name in view.lanes}
    others = [lane.row for lane in lanes if _name(lane.row) not in theirs]
    etas = [row.eta_s for row in others if row.waiting]
    known = [eta for eta in etas if eta is not None]
    if known and len(known) == len(etas):
        details.append(f"All others are done in about {age_text(max(known))}.")
    names = ", ".join(view.row.dependency for view in held[:_NAMED])
    more = f" and {len(held) - _NAMED} more are" if len(held) > _NAMED else " is"
    headline = f"Not before {names}{more} back"
    last = Answer(QUESTIONS[-1], Grade.WARNING, headline, tuple(details))
    return [*answers[:-1], last]


def view_lanes(overview: Overview, match: str = "") -> list[LaneView]:
    """Lanes whose name holds a text, those that need attention first."""
    lanes = [view_lane(row) for row in overview.lanes if match in _name(row)]
    return sorted(lanes, key=lambda lane: lane.urgency, reverse=True)


def view_priorities(overview: Overview) -> list[PriorityView]:
    """The flow of each priority that has a lane or was offered, most urgent first."""
    admission = overview.admission
    recent = [] if admission is None else admission.last_minute
    flows = {row.priority: row for row in recent}
    found: dict[str, list[LaneRow]] = {row.priority: [] for row in recent}
    for row in overview.lanes:
        found.setdefault(row.priority, []).append(row)
    return [
        PriorityView(
            priority=name,
            flow=flows.get(name),
            done=round(sum(row.rate_per_s or 0.0 for row in lanes) * _MINUTE_S),
            waiting=sum(row.waiting for row in lanes),
            delayed=sum(row.delayed or 0 for row in lanes),
            running=sum(row.running or 0 for row in lanes),
            oldest_s=max(
                (age for row in lanes if (age := row.oldest_age_s) is not None),
                default=None,
            ),
        )
        for name in (priority.value for priority in Priority)
        if (lanes := found.get(name)) is not None
    ]


def view_dependencies(
    overview: Overview,
    changes: RecentChanges,
    lanes_of: Mapping[str, Iterable[str]],
    namespace: str,
) -> list[DependencyView]:
    """Dependencies, those that are kept from calls first.

    Args:
        overview: The state.
        changes: When operators opened circuits by hand.
        lanes_of: Lanes of the jobs that call each dependency, by its name.
        namespace: Of the lanes.
    """
    rows = {
        Lane(namespace, row.queue, Priority(row.priority)).name: row
        for row in overview.lanes
    }
    budgets = {row.dependency: row for row in overview.budgets}
    views = []
    for circuit in overview.circuits:
        names = sorted(lanes_of.get(circuit.dependency, ()))
        own = [rows[name] for name in names if name in rows]
        etas = [row.eta_s for row in own if row.waiting]
        known = [eta for eta in etas if eta is not None]
        has_eta = len(known) == len(etas) and not is_unhealthy(circuit)
        views.append(
            DependencyView(
                row=circuit,
                budget=budgets.get(circuit.dependency),
                is_unhealthy=is_unhealthy(circuit),
                since_ms=_since_ms(circuit, changes),
                waiting=sum(row.waiting for row in own),
                delayed=sum(row.delayed or 0 for row in own),
                eta_s=max(known, default=0.0) if has_eta else None,
                lanes=tuple(_name(row) for row in own),
            )
        )
    return sorted(views, key=lambda view: (not view.is_unhealthy, view.row.dependency))


def _since_ms(row: CircuitRow, changes: RecentChanges) -> int | None:
    if not is_unhealthy(row):
        return None
    if row.by_hand is not None:
        return changes.opened_by_hand_ms(row.dependency)
    return row.since_ms


def _name(row: LaneRow) -> str:
    return f"{row.queue}/{row.priority.lower()}"
