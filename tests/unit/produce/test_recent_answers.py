"""What a service reports of the answers of its last minute."""

from __future__ import annotations

import pytest

from shifter import Priority
from shifter.fleet.service_reports import NO_COUNTS, RecentAnswers
from shifter.model.reason import Reason
from shifter.produce.observer import ServiceObserver
from shifter.produce.recent_answers import AnswerCounts
from shifter.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_answers_are_counted_by_word_and_priority(clock):
    observer = ServiceObserver()
    for answer in ("ran", "ran", "deferred", "degraded", "shed", "error"):
        observer.answered("send", Priority.LOW, answer, Reason.ACCEPTED)
    observer.answered("send", Priority.CRITICAL, "ran", Reason.ACCEPTED)

    found = observer.service_report(clock, "1.2")

    assert found.version == "1.2"
    assert found.last_minute == RecentAnswers(
        (1, 0, 0, 6), (1, 0, 0, 2), (0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 1)
    )


def test_an_answer_counts_for_a_minute(clock):
    counts = AnswerCounts()
    counts.report(clock, "")
    for _ in range(100):
        counts.add(Priority.HIGH, "ran", 3)
        clock.advance(1.0)
        counts.report(clock, "")

    assert counts.report(clock, "").last_minute.ran == (0, 180, 0, 0)
    for _ in range(61):
        clock.advance(1.0)
        found = counts.report(clock, "")
    assert found.last_minute.offered == NO_COUNTS


def test_what_is_kept_is_bounded_however_often_it_is_asked(clock):
    counts = AnswerCounts()
    for _ in range(1_000):
        clock.advance(0.2)
        counts.report(clock, "")

    assert len(counts._kept) <= 62


def test_shedding_lasts_until_a_minute_without_it(clock):
    counts = AnswerCounts()
    assert counts.report(clock, "").shedding_ms == 0
    counts.add(Priority.LOW, "shed", 1)
    began_ms = clock.epoch_ms()
    assert counts.report(clock, "").shedding_ms == began_ms

    clock.advance(50.0)
    counts.add(Priority.LOW, "shed", 1)
    assert counts.report(clock, "").shedding_ms == began_ms
    for _ in range(62):
        clock.advance(1.0)
        found = counts.report(clock, "")
    assert found.shedding_ms == 0
    assert found.started_ms == began_ms
