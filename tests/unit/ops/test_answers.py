"""The three questions of an operator, answered from an overview."""

from __future__ import annotations

import msgspec
import pytest

from shifter.fleet.view import AdmissionRow, CircuitRow, OverrideRow, QualityRow
from shifter.ops.answers import (
    Grade,
    Mode,
    RecentShed,
    answers_of,
    is_unhealthy,
    mode_of,
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


BUSY = lane(waiting=60, rate_per_s=2.0, eta_s=30.0)
STUCK = lane(waiting=60)
LATE = lane(waiting=60, rate_per_s=2.0, eta_s=30.0, tightest_deadline_s=20.0)
MODES = {
    "nothing was read": (None, 0, Mode.UNKNOWN),
    "nothing waits": (overview(), 0, Mode.NORMAL),
    "jobs wait": (overview(BUSY), 0, Mode.SHIFTING),
    "jobs are delayed": (overview(lane(delayed=1)), 0, Mode.SHIFTING),
    "a circuit is open": (overview(BUSY, circuits=[circuit("open")]), 0, Mode.DEGRADED),
    "quality is reduced": (
        overview(quality=QualityRow("REDUCED", "REDUCED", None, 0.9, 1)),
        0,
        Mode.DEGRADED,
    ),
    "jobs were shed": (overview(circuits=[circuit("open")]), 3, Mode.SHEDDING),
    "the state store is away": (overview(quality=None), 0, Mode.UNKNOWN),
}


@pytest.mark.parametrize(("found", "shed", "mode"), MODES.values(), ids=MODES)
def test_the_worst_fact_decides_the_mode(found, shed, mode):
    assert mode_of(found, shed) is mode


ANSWERS = {
    "nothing was read": (None, 0, "unknown", "unknown", "unknown"),
    "nothing waits": (overview(), 0, "good", "good", "good"),
    "jobs wait": (overview(BUSY), 0, "good", "good", "good"),
    "no job ends": (overview(STUCK), 0, "good", "good", "warning"),
    "too late": (overview(LATE), 0, "good", "bad", "good"),
    "no worker": (overview(STUCK, workers=[]), 0, "good", "bad", "warning"),
    "dead letters": (
        overview(dead_letters=[DeadLetterRow("mail", 2)]),
        *(0, "good", "warning", "good"),
    ),
    "an open circuit": (
        overview(circuits=[circuit("open")]),
        *(0, "warning", "good", "good"),
    ),
    "jobs were shed": (overview(), 7, "bad", "good", "good"),
    "the state store is away": (
        overview(lane(waiting=1, rate_per_s=None), quality=None, workers=[]),
        *(0, "unknown", "good", "unknown"),
    ),
}


@pytest.mark.parametrize(
    ("found", "shed", "users", "work", "end"), ANSWERS.values(), ids=ANSWERS
)
def test_each_question_has_a_grade(found, shed, users, work, end):
    grades = [answer.grade for answer in answers_of(found, shed)]

    assert grades == [Grade(users), Grade(work), Grade(end)]


def test_the_slowest_lane_decides_when_all_is_done():
    slow = lane("slow", waiting=10, rate_per_s=0.1, eta_s=100.0)

    end = answers_of(overview(BUSY, slow, lane(delayed=4)), 0)[2]

    assert end.headline == "In about 1m40s"
    assert end.details == (
        "70 jobs wait, 2.1 end a second.",
        "4 jobs wait for a later time.",
    )


def test_a_sentence_names_three_lanes_and_counts_the_others():
    names = ["a", "b", "c", "d", "e"]

    end = answers_of(overview(*(lane(name, waiting=1) for name in names)), 0)[2]

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


def shed_at(seconds: int, total: int) -> Overview:
    return overview(
        as_of_ms=seconds * 1_000, admission=AdmissionRow({"LOW": total}, {})
    )


@pytest.mark.parametrize(
    ("sums", "count"),
    [
        ([], 0),
        ([(0, 500)], 0),
        ([(0, 500), (1, 503), (2, 510)], 10),
        # a service that ended takes its count with it
        ([(0, 500), (1, 503), (2, 10), (3, 12)], 5),
        ([(0, 0), (10, 40), (80, 40), (90, 41)], 1),
    ],
)
def test_jobs_shed_within_a_minute_are_counted(sums, count):
    shed = RecentShed()

    for seconds, total in sums:
        shed.note(shed_at(seconds, total))

    assert shed.count == count


def test_a_state_store_that_is_away_sheds_nothing():
    shed = RecentShed()

    for found in (shed_at(0, 5), overview(as_of_ms=1_000), shed_at(2, 6)):
        shed.note(found)

    assert shed.count == 1
