"""The three questions of an operator, answered from an overview."""

from __future__ import annotations

import msgspec
import pytest

from shifter.fleet.service_reports import AdmissionRow, FlowRow
from shifter.fleet.view import CircuitRow, OverrideRow, QualityRow
from shifter.ops.answers import (
    Grade,
    Mode,
    answers_of,
    is_unhealthy,
    mode_of,
    mode_since_ms,
    view_lane,
)
from shifter.ops.status import DeadLetterRow, LaneRow, Overview
from shifter.ports import WorkerReport

FULL = QualityRow("FULL", "FULL", None, 0.1, 1)
WORKER = WorkerReport("w1", "host", 1, 0, 0, 10, {}, {})
HAND = OverrideRow("open", "ann@host", "deploy", 60.0)


def lane(queue: str = "mail", **facts) -> LaneRow:
    empty = LaneRow(queue, "NORMAL", 0, 0, 0, None, 0.0, None)
    return msgspec.structs.replace(empty, **facts)


def circuit(state: str = "closed", by_hand=None) -> CircuitRow:
    return CircuitRow("mailer", state, None, 0, by_hand, 1, 0.1, 5, 0, 0, None, {}, {})


def overview(*lanes: LaneRow, **facts) -> Overview:
    found = Overview(0, list(lanes), [], [], [], [WORKER], quality=FULL)
    return msgspec.structs.replace(found, **facts)


def shedding(count: int, since_ms: int = 0, **facts) -> Overview:
    rows = [FlowRow("LOW", count, 0, 0, 0, count)]
    return overview(admission=AdmissionRow({}, {}, rows, since_ms), **facts)


BUSY = lane(waiting=60, rate_per_s=2.0, eta_s=30.0)
STUCK = lane(waiting=60)
LATE = lane(waiting=60, rate_per_s=2.0, eta_s=30.0, tightest_deadline_s=20.0)
MODES = {
    "nothing was read": (None, Mode.UNKNOWN),
    "nothing waits": (overview(), Mode.NORMAL),
    "jobs wait": (overview(BUSY), Mode.SHIFTING),
    "jobs are delayed": (overview(lane(delayed=1)), Mode.SHIFTING),
    "a circuit is open": (overview(BUSY, circuits=[circuit("open")]), Mode.DEGRADED),
    "quality is reduced": (
        overview(quality=QualityRow("REDUCED", "REDUCED", None, 0.9, 1)),
        Mode.DEGRADED,
    ),
    "jobs were shed": (shedding(3, circuits=[circuit("open")]), Mode.SHEDDING),
    "the state store is away": (overview(quality=None), Mode.UNKNOWN),
}


@pytest.mark.parametrize(("found", "mode"), MODES.values(), ids=MODES)
def test_the_worst_fact_decides_the_mode(found, mode):
    assert mode_of(found) is mode


ANSWERS = {
    "nothing was read": (None, "unknown", "unknown", "unknown"),
    "nothing waits": (overview(), "good", "good", "good"),
    "jobs wait": (overview(BUSY), "good", "good", "good"),
    "no job ends": (overview(STUCK), "good", "good", "warning"),
    "too late": (overview(LATE), "good", "bad", "good"),
    "no worker": (overview(STUCK, workers=[]), "good", "bad", "warning"),
    "dead letters": (
        overview(dead_letters=[DeadLetterRow("mail", 2)]),
        *("good", "warning", "good"),
    ),
    "an open circuit": (
        overview(circuits=[circuit("open")]),
        *("warning", "good", "good"),
    ),
    "jobs were shed": (shedding(7), "bad", "good", "good"),
    "the state store is away": (
        overview(lane(waiting=1, rate_per_s=None), quality=None, workers=[]),
        *("unknown", "good", "unknown"),
    ),
}


@pytest.mark.parametrize(
    ("found", "users", "work", "end"), ANSWERS.values(), ids=ANSWERS
)
def test_each_question_has_a_grade(found, users, work, end):
    grades = [answer.grade for answer in answers_of(found)]

    assert grades == [Grade(users), Grade(work), Grade(end)]


def test_the_slowest_lane_decides_when_all_is_done():
    slow = lane("slow", waiting=10, rate_per_s=0.1, eta_s=100.0)

    end = answers_of(overview(BUSY, slow, lane(delayed=4)))[2]

    assert end.headline == "In about 1m40s"
    assert end.details == (
        "70 jobs wait, 2.1 end a second.",
        "4 jobs wait for a later time.",
    )


def test_a_sentence_names_three_lanes_and_counts_the_others():
    names = ["a", "b", "c", "d", "e"]

    end = answers_of(overview(*(lane(name, waiting=1) for name in names)))[2]

    assert end.details[0] == "No job ends in a/normal, b/normal, c/normal and 2 more."


@pytest.mark.parametrize(
    ("row", "is_late", "is_stuck"),
    [
        (lane(), False, False),
        (BUSY, False, False),
        (STUCK, False, True),
        (LATE, True, False),
        (lane(waiting=1, tightest_deadline_s=-0.1), True, True),
        (lane(waiting=1, tightest_deadline_s=5.0), False, True),
        (lane(waiting=1, rate_per_s=None), False, False),
    ],
)
def test_a_lane_is_late_or_stuck_by_its_numbers(row, is_late, is_stuck):
    view = view_lane(row)

    assert (view.is_late, view.is_stuck) == (is_late, is_stuck)


@pytest.mark.parametrize(
    ("row", "unhealthy"),
    [
        (circuit(), False),
        (circuit("half_open"), True),
        (circuit("open"), True),
        (circuit("closed", HAND), True),
        (circuit("open", msgspec.structs.replace(HAND, to="closed")), False),
    ],
)
def test_an_override_decides_over_the_circuit(row, unhealthy):
    assert is_unhealthy(row) is unhealthy


def test_the_mode_has_the_instant_since_which_the_fleet_shares_it():
    slow = QualityRow("REDUCED", "REDUCED", None, 0.9, 1, since_ms=5_000)
    opened = msgspec.structs.replace(circuit("half_open"), since_ms=3_000)
    closed = msgspec.structs.replace(circuit(), since_ms=1_000)
    by_hand = msgspec.structs.replace(circuit("open", HAND), since_ms=1_000)
    degraded = overview(quality=slow, circuits=[closed, by_hand, opened])
    waits = overview(lane(waiting=1, oldest_age_s=2.5), as_of_ms=10_000)

    assert mode_since_ms(degraded) == 3_000
    assert mode_since_ms(overview(quality=slow)) == 5_000
    assert mode_since_ms(overview(circuits=[by_hand])) is None
    assert mode_since_ms(shedding(4, since_ms=7_000)) == 7_000
    assert mode_since_ms(waits) == 7_500
    assert mode_since_ms(overview(lane(delayed=1))) is None
    assert mode_since_ms(overview()) is mode_since_ms(None) is None
