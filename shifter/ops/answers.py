"""What an operator asks first, answered from one overview of a namespace.

The three questions are: are users safe, is deferred work safe, and when will it be
done? Each answer is a grade and a sentence, made of the overview alone, so that a page
and a terminal show the same.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from shifter.fleet.view import CircuitRow
from shifter.model.answer import Quality
from shifter.ops.status import LaneRow, Overview
from shifter.ops.texts import age_text

_NAMED: Final = 3
"""Lanes that a sentence names; the others are counted."""

QUESTIONS: Final = (
    *("Are users safe?", "Is deferred work safe?", "When will it be done?"),
)


class Mode(StrEnum):
    """What the system does with work now."""

    UNKNOWN = "unknown"
    NORMAL = "normal"
    SHIFTING = "shifting"
    DEGRADED = "degraded"
    SHEDDING = "shedding"


MODE_TEXTS: Final = {
    Mode.UNKNOWN: "The state of the system is not known.",
    Mode.NORMAL: "Everything runs at once.",
    Mode.SHIFTING: "Some work is deferred and waits for its turn.",
    Mode.DEGRADED: "A dependency is not called, or answers have less quality.",
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
        details: Sentences that explain it, the most important first.
    """

    question: str
    grade: Grade
    headline: str
    details: tuple[str, ...] = ()


class LaneView(NamedTuple):
    """One lane with what follows from its numbers.

    Attributes:
        row: As in the overview.
        is_late: Whether the lane will not be empty by its tightest deadline.
        is_stuck: Whether jobs wait and none ends.
    """

    row: LaneRow
    is_late: bool
    is_stuck: bool

    @property
    def deadline_s(self) -> float | None:
        """Seconds to the tightest deadline; ``None`` where there is none."""
        return self.row.tightest_deadline_s

    @property
    def urgency(self) -> tuple[bool, bool, float, int]:
        """Sorts lanes that need attention behind the others."""
        row = self.row
        return self.is_late, self.is_stuck, row.oldest_age_s or 0.0, row.waiting


def shed_lately(overview: Overview | None) -> int:
    """Jobs that services shed within the last minute, as far as is known."""
    if overview is None or overview.admission is None:
        return 0
    return sum(row.shed for row in overview.admission.last_minute)


def mode_of(overview: Overview | None) -> Mode:
    """What the system does with work now.

    Args:
        overview: The last overview; ``None`` while there is none.
    """
    if overview is None:
        return Mode.UNKNOWN
    if shed_lately(overview):
        return Mode.SHEDDING
    if _reduced(overview) or any(map(is_unhealthy, overview.circuits)):
        return Mode.DEGRADED
    if any(lane.waiting or lane.delayed for lane in overview.lanes):
        return Mode.SHIFTING
    # Without the state store, nobody can tell whether answers are reduced.
    return Mode.UNKNOWN if overview.quality is None else Mode.NORMAL


def mode_since_ms(overview: Overview | None) -> int | None:
    """Since when the mode holds, by what the fleet shares; epoch milliseconds.

    ``None`` where that is not known, and of the modes ``NORMAL`` and ``UNKNOWN``.
    """
    mode = mode_of(overview)
    if overview is None or mode in (Mode.UNKNOWN, Mode.NORMAL):
        return None
    if mode is Mode.SHEDDING:
        return None if overview.admission is None else overview.admission.shedding_ms
    if mode is Mode.DEGRADED:
        rows = [row for row in overview.circuits if is_unhealthy(row)]
        since = [row.since_ms for row in rows if row.by_hand is None]
        quality = overview.quality
        if quality is not None and quality.by_hand is None and _reduced(overview):
            since.append(quality.since_ms)
        return min((at_ms for at_ms in since if at_ms is not None), default=None)
    ages_s = [
        row.oldest_age_s for row in overview.lanes if row.oldest_age_s is not None
    ]
    return overview.as_of_ms - int(max(ages_s) * 1_000) if ages_s else None


def answers_of(overview: Overview | None) -> list[Answer]:
    """The answers to the three questions, in their order.

    Args:
        overview: The last overview; ``None`` while there is none.
    """
    if overview is None:
        return [Answer(question, Grade.UNKNOWN, "Not known") for question in QUESTIONS]
    lanes = [view_lane(row) for row in overview.lanes]
    return [
        _users(overview),
        _work(overview, lanes),
        _end(overview, lanes),
    ]


def view_lane(row: LaneRow) -> LaneView:
    """A lane with what follows from its numbers."""
    deadline_s, eta_s = row.tightest_deadline_s, row.eta_s
    is_stuck = bool(row.waiting) and eta_s is None and row.rate_per_s is not None
    is_late = deadline_s is not None and (
        deadline_s <= 0 or (eta_s is not None and eta_s > deadline_s)
    )
    return LaneView(row, is_late, is_stuck)


def is_unhealthy(row: CircuitRow) -> bool:
    """Whether calls to a dependency are kept back, by the fleet or by hand."""
    if row.by_hand is not None:
        return row.by_hand.to == "open"
    return row.state != "closed"


def _users(overview: Overview) -> Answer:
    question, quality, shed = QUESTIONS[0], overview.quality, shed_lately(overview)
    if quality is None:
        text = "The state store is away: circuits and quality are not known."
        return Answer(question, Grade.UNKNOWN, "Not known", (text,))
    details = []
    if shed:
        details.append(f"{shed:,} requests were refused in the last minute.")
    held = [row.dependency for row in overview.circuits if is_unhealthy(row)]
    if held:
        details.append(f"Calls are kept back from {_few(held)}.")
    if _reduced(overview):
        details.append(f"Answers have {quality.quality} quality.")
    if shed:
        return Answer(question, Grade.BAD, "Some are refused", tuple(details))
    if details:
        return Answer(question, Grade.WARNING, "With limits", tuple(details))
    text = "Nothing is refused, and answers have full quality."
    return Answer(question, Grade.GOOD, "Yes", (text,))


def _work(overview: Overview, lanes: list[LaneView]) -> Answer:
    question = QUESTIONS[1]
    kept = sum(lane.row.waiting + (lane.row.delayed or 0) for lane in lanes)
    dead = sum(row.count for row in overview.dead_letters)
    late = [_name(lane.row) for lane in lanes if lane.is_late]
    details = [f"{kept:,} jobs are kept in the log."]
    if dead:
        details.insert(0, f"{dead:,} dead letters need a decision.")
    if late:
        details.insert(0, f"Not done by the tightest deadline: {_few(late)}.")
    if kept and not overview.workers and overview.quality is not None:
        details.insert(0, "No worker is alive.")
        return Answer(question, Grade.BAD, "Kept, but nobody works", tuple(details))
    if late:
        return Answer(question, Grade.BAD, "Some will be late", tuple(details))
    if dead:
        return Answer(question, Grade.WARNING, "Some need a decision", tuple(details))
    return Answer(question, Grade.GOOD, "Yes", tuple(details))


def _end(overview: Overview, lanes: list[LaneView]) -> Answer:
    question = QUESTIONS[2]
    busy = [lane for lane in lanes if lane.row.waiting]
    delayed = sum(lane.row.delayed or 0 for lane in lanes)
    later = (f"{delayed:,} jobs wait for a later time.",) if delayed else ()
    if not busy:
        return Answer(question, Grade.GOOD, "Nothing waits", later)
    stuck = [_name(lane.row) for lane in busy if lane.row.eta_s is None]
    if stuck and overview.quality is None:
        text = "The state store is away: rates are not known."
        return Answer(question, Grade.UNKNOWN, "Not known", (text, *later))
    if stuck:
        text = f"No job ends in {_few(stuck)}."
        return Answer(question, Grade.WARNING, "Not known", (text, *later))
    eta_s = max(lane.row.eta_s or 0.0 for lane in busy)
    rate = sum(lane.row.rate_per_s or 0.0 for lane in busy)
    waiting = sum(lane.row.waiting for lane in busy)
    text = f"{waiting:,} jobs wait, {rate:.1f} end a second."
    return Answer(question, Grade.GOOD, f"In about {age_text(eta_s)}", (text, *later))


def _reduced(overview: Overview) -> bool:
    quality = overview.quality
    return quality is not None and quality.quality != Quality.FULL


def _name(row: LaneRow) -> str:
    return f"{row.queue}/{row.priority.lower()}"


def _few(names: list[str]) -> str:
    shown, more = ", ".join(names[:_NAMED]), len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
