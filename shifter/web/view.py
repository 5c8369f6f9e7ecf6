"""What the page shows of a reading: the banner, three answers, and rows of sections.

The three questions of an operator: are users safe, is deferred work safe, and when will
it be done? Each answer is a grade and a sentence, made of the state alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from shifter.fleet.view import BudgetRow, CircuitRow
from shifter.model.answer import Quality
from shifter.model.lane import Lane, Priority
from shifter.ops.status import LaneRow, Overview
from shifter.ops.texts import age_text
from shifter.web.history import History, Since, is_unhealthy

SHOWN_LANES: Final = 50
"""Lanes of the first page; the others are on a page of their own."""


class Mode(StrEnum):
    """What the system does with work now; a later member outweighs an earlier one."""

    UNKNOWN = "unknown"
    NORMAL = "normal"
    SHIFTING = "shifting"
    DEGRADED = "degraded"
    SHEDDING = "shedding"


MODE_TEXTS: Final = {
    Mode.UNKNOWN: "The state of the system is not known.",
    Mode.NORMAL: "Everything runs at once.",
    Mode.SHIFTING: "Some work is deferred and waits for its turn.",
    Mode.DEGRADED: "A dependency or the quality of answers is reduced.",
    Mode.SHEDDING: "Requests are refused.",
}


class Grade(StrEnum):
    """How good an answer is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNKNOWN = "unknown"


class Answer(NamedTuple):
    """The answer to one of the three questions.

    Attributes:
        question: The question.
        grade: How good it is.
        headline: In a few words.
        details: Sentences that explain it.
    """

    question: str
    grade: Grade
    headline: str
    details: tuple[str, ...] = ()


class LaneView(NamedTuple):
    """One lane as a row.

    Attributes:
        row: As in the status.
        deadline_s: Seconds to the tightest deadline; ``None`` where there is none.
        is_late: Whether the lane will not be empty by then.
        is_stuck: Whether jobs wait and none ends.
    """

    row: LaneRow
    deadline_s: float | None
    is_late: bool
    is_stuck: bool


class DependencyView(NamedTuple):
    """One dependency as a row.

    Attributes:
        row: As in the status.
        budget: Its retry budget, if it is reported.
        is_unhealthy: Whether calls are kept back.
        since: Since when.
        waiting: Jobs in the lanes of the jobs that call it.
        delayed: Of those lanes, jobs that wait for their due time.
        eta_s: Seconds until these lanes are empty; ``None`` if not known.
        lanes: Those lanes, as ``queue/priority``.
    """

    row: CircuitRow
    budget: BudgetRow | None
    is_unhealthy: bool
    since: Since | None
    waiting: int
    delayed: int
    eta_s: float | None
    lanes: tuple[str, ...]


class PriorityView(NamedTuple):
    """The flow of one priority.

    Attributes:
        priority: ``CRITICAL`` … ``LOW``.
        waiting: Records that wait.
        delayed: Records that wait for their due time.
        running: Attempts that run.
        rate_per_s: Jobs that end a second.
        shed: Jobs that services shed since they began.
        oldest_s: Age of the oldest waiting record.
    """

    priority: str
    waiting: int
    delayed: int
    running: int
    rate_per_s: float
    shed: int
    oldest_s: float | None


def mode_of(overview: Overview | None, shed_lately: int) -> Mode:
    """What the system does with work now.

    Args:
        overview: The state; ``None`` while there is none.
        shed_lately: Jobs shed within the last minute.
    """
    if overview is None:
        return Mode.UNKNOWN
    if shed_lately:
        return Mode.SHEDDING
    if _reduced(overview) or any(map(is_unhealthy, overview.circuits)):
        return Mode.DEGRADED
    if any(lane.waiting or lane.delayed for lane in overview.lanes):
        return Mode.SHIFTING
    return Mode.NORMAL


def answers_of(overview: Overview | None, shed_lately: int) -> list[Answer]:
    """The answers to the three questions, in their order."""
    if overview is None:
        return [
            Answer(question, Grade.UNKNOWN, "Not known yet")
            for question in ("Are users safe?", *_LATER_QUESTIONS)
        ]
    lanes = [view_lane(lane) for lane in overview.lanes]
    return [
        _users(overview, shed_lately),
        _work(overview, lanes),
        _end(overview, lanes),
    ]


_LATER_QUESTIONS: Final = ("Is deferred work safe?", "When will it be done?")


def _users(overview: Overview, shed_lately: int) -> Answer:
    question = "Are users safe?"
    if overview.quality is None:
        text = "The state store does not answer, so circuits and quality are not known."
        return Answer(question, Grade.UNKNOWN, "Not known", (text,))
    ill = [row.dependency for row in overview.circuits if is_unhealthy(row)]
    details = []
    if ill:
        details.append(f"Calls are kept back from {', '.join(ill)}.")
    if _reduced(overview):
        details.append(f"Answers have {overview.quality.quality} quality.")
    if shed_lately:
        details.insert(0, f"{shed_lately} requests were refused in the last minute.")
        return Answer(question, Grade.BAD, "Some are refused", tuple(details))
    if details:
        return Answer(question, Grade.WARNING, "With limits", tuple(details))
    text = "Nothing is refused, and answers have full quality."
    return Answer(question, Grade.GOOD, "Yes", (text,))


def _work(overview: Overview, lanes: list[LaneView]) -> Answer:
    question = _LATER_QUESTIONS[0]
    kept = sum(lane.row.waiting + (lane.row.delayed or 0) for lane in lanes)
    dead = sum(row.count for row in overview.dead_letters)
    late = [_name(lane.row) for lane in lanes if lane.is_late]
    details = [f"{kept} jobs are kept in the log."]
    if dead:
        details.append(f"{dead} dead letters need a decision.")
    if late:
        details.append(f"Not done by the tightest deadline: {_few(late)}.")
    if kept and not overview.workers and overview.quality is not None:
        details.insert(0, "No worker is alive.")
        return Answer(question, Grade.BAD, "Kept, but nobody works", tuple(details))
    if late:
        return Answer(question, Grade.BAD, "Some will be late", tuple(details))
    if dead:
        return Answer(question, Grade.WARNING, "Some need a decision", tuple(details))
    return Answer(question, Grade.GOOD, "Yes", tuple(details))


def _end(overview: Overview, lanes: list[LaneView]) -> Answer:
    question = _LATER_QUESTIONS[1]
    busy = [lane for lane in lanes if lane.row.waiting]
    delayed = sum(lane.row.delayed or 0 for lane in lanes)
    later = (f"{delayed} jobs wait for a later time.",) if delayed else ()
    if not busy:
        return Answer(question, Grade.GOOD, "Nothing waits", later)
    stuck = [_name(lane.row) for lane in busy if lane.row.eta_s is None]
    if stuck and overview.quality is None:
        text = "The state store does not answer, so rates are not known."
        return Answer(question, Grade.UNKNOWN, "Not known", (text, *later))
    if stuck:
        text = f"No job ends in {_few(stuck)}."
        return Answer(question, Grade.WARNING, "Not known", (text, *later))
    eta_s = max(lane.row.eta_s or 0.0 for lane in busy)
    rate = sum(lane.row.rate_per_s or 0.0 for lane in busy)
    text = (
        f"{sum(lane.row.waiting for lane in busy)} jobs wait, {rate:.1f} end a second."
    )
    return Answer(question, Grade.GOOD, f"In about {age_text(eta_s)}", (text, *later))


def view_lane(row: LaneRow) -> LaneView:
    """A lane with what follows from its numbers."""
    deadline_s = row.tightest_deadline_s
    is_stuck = bool(row.waiting) and row.eta_s is None and row.rate_per_s is not None
    is_late = deadline_s is not None and (
        deadline_s <= 0 or (row.eta_s is not None and row.eta_s > deadline_s)
    )
    return LaneView(row, deadline_s, is_late, is_stuck)


def view_lanes(overview: Overview, match: str = "") -> list[LaneView]:
    """Lanes whose name holds a text, those that need attention first."""
    lanes = [view_lane(row) for row in overview.lanes if match in _name(row)]
    return sorted(
        lanes,
        key=lambda lane: (
            not lane.is_late,
            not lane.is_stuck,
            -(lane.row.oldest_age_s or 0.0),
            -lane.row.waiting,
        ),
    )


def view_priorities(overview: Overview) -> list[PriorityView]:
    """The flow of each priority that has a lane, most urgent first."""
    shed = {} if overview.admission is None else overview.admission.shed
    found: dict[str, list[LaneRow]] = {}
    for row in overview.lanes:
        found.setdefault(row.priority, []).append(row)
    order = [name.value for name in Priority if name.value in found]
    return [
        PriorityView(
            priority=name,
            waiting=sum(row.waiting for row in found[name]),
            delayed=sum(row.delayed or 0 for row in found[name]),
            running=sum(row.running or 0 for row in found[name]),
            rate_per_s=sum(row.rate_per_s or 0.0 for row in found[name]),
            shed=shed.get(name, 0),
            oldest_s=max(
                (age for row in found[name] if (age := row.oldest_age_s) is not None),
                default=None,
            ),
        )
        for name in order
    ]


def view_dependencies(
    overview: Overview,
    history: History,
    lanes_of: Mapping[str, Iterable[str]],
    namespace: str,
) -> list[DependencyView]:
    """Dependencies, those that are kept from calls first.

    Args:
        overview: The state.
        history: Since when each is unhealthy.
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
        views.append(
            DependencyView(
                row=circuit,
                budget=budgets.get(circuit.dependency),
                is_unhealthy=is_unhealthy(circuit),
                since=history.unhealthy.get(circuit.dependency),
                waiting=sum(row.waiting for row in own),
                delayed=sum(row.delayed or 0 for row in own),
                eta_s=max(known, default=0.0) if len(known) == len(etas) else None,
                lanes=tuple(_name(row) for row in own),
            )
        )
    return sorted(views, key=lambda view: (not view.is_unhealthy, view.row.dependency))


def _reduced(overview: Overview) -> bool:
    quality = overview.quality
    return quality is not None and quality.quality != Quality.FULL


def _name(row: LaneRow) -> str:
    return f"{row.queue}/{row.priority.lower()}"


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
