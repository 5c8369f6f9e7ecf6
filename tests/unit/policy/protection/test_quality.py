from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.model.answer import Quality
from shifter.policy.delivery.failure_burst import FailureBurst, FailureBurstPolicy
from shifter.policy.protection.quality import (
    QualityPolicy,
    QualityState,
    observe,
)

POLICY = QualityPolicy()


def seen(*loads: tuple[float, int], state=None):
    state = QualityState() if state is None else state
    for load, now_ms in loads:
        state = observe(POLICY, state, load=load, now_ms=now_ms)
    return state


def test_a_load_that_lasts_lowers_it_a_step_at_a_time():
    assert seen((1.0, 0), (1.0, 1_999)).quality is Quality.FULL
    assert seen((1.0, 0), (1.0, 2_000)).quality is Quality.REDUCED
    assert seen((1.0, 0), (1.0, 2_000), (1.0, 3_999)).quality is Quality.REDUCED
    steps = [(1.0, at) for at in range(0, 20_000, 2_000)]
    assert seen(*steps).quality is Quality.MINIMAL


def test_a_peak_that_ends_lowers_nothing():
    assert seen((1.0, 0), (0.7, 1_000), (1.0, 2_500)).quality is Quality.FULL


def test_a_peak_begins_the_wait_for_calm_anew():
    low = QualityState(Quality.REDUCED)

    after = seen((0.1, 0), (1.0, 9_000), (0.1, 9_500), (0.1, 15_000), state=low)

    assert after.quality is Quality.REDUCED


def test_it_is_raised_later_than_it_was_lowered():
    low = QualityState(Quality.MINIMAL)

    assert seen((0.1, 0), (0.1, 9_999), state=low).quality is Quality.MINIMAL
    assert seen((0.1, 0), (0.1, 10_000), state=low).quality is Quality.REDUCED
    calm = [(0.1, at) for at in range(0, 30_000, 1_000)]
    assert seen(*calm, state=low).quality is Quality.FULL


@pytest.mark.parametrize("quality", list(Quality))
def test_between_the_marks_nothing_changes_however_long(quality):
    loads = [(0.75, at) for at in range(0, 10**6, 5_000)]

    assert seen(*loads, state=QualityState(quality)).quality is quality


@pytest.mark.parametrize("first", [0.1, 1.0])
def test_a_load_that_is_no_number_changes_nothing(first):
    before = seen((first, 0))

    assert seen((float("nan"), 10**6), state=before) is before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lower_at", float("nan")),
        ("raise_at", 0.9),
        ("raise_at", -1),
        ("lower_after_ms", 0),
        ("raise_after_ms", 1_999),
    ],
)
def test_a_contradiction_is_refused_with_its_field(field, value):
    with pytest.raises(ConfigError) as caught:
        QualityPolicy(**{field: value})

    assert caught.value.field == field


def ended(*, dead: int, well: int, kind: str = "a") -> FailureBurst:
    letters = FailureBurst(FailureBurstPolicy())
    for _ in range(dead):
        letters.record(0, kind)
    for _ in range(well):
        letters.record(0)
    return letters


def test_many_deaths_of_one_kind_are_suspect_a_few_are_not():
    assert ended(dead=20, well=79).suspected(0) == "a"
    assert ended(dead=20, well=80).suspected(0) is None
    assert ended(dead=19, well=0).suspected(0) is None


def test_deaths_of_many_kinds_are_the_jobs_own():
    letters = FailureBurst(FailureBurstPolicy())
    for index in range(500):
        letters.record(0, f"kind {index}")

    assert letters.suspected(0) is None


def test_a_suspicion_ends_with_the_window():
    letters = ended(dead=100, well=0)

    assert letters.suspected(299_999) == "a"
    assert letters.suspected(300_000) is None


def test_a_new_kind_takes_the_place_of_one_that_was_not_met_for_a_window():
    letters = FailureBurst(FailureBurstPolicy())
    for index in range(500):
        letters.record(0, f"kind {index}")
    for _ in range(20):
        letters.record(300_000, "new")

    assert letters.suspected(300_000) == "new"


@pytest.mark.parametrize(("field", "value"), [("ratio", 0), ("min_dead", 0)])
def test_a_budget_that_suspects_everything_is_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        FailureBurstPolicy(**{field: value})
