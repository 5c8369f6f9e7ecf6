"""Levels, thresholds and the share that is turned away."""

from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.admission.lane_outlook import (
    LaneFacts,
    OutlookPolicy,
    eta_s,
    is_feasible,
    retry_after_s,
)
from shifter.policy.admission.prioritizer import (
    Levels,
    PrioritizerPolicy,
    Signals,
    error_of,
    level_of,
    next_ratio,
    stable_draw,
)

POLICY = PrioritizerPolicy()


def levels_of(*levels, arrivals=1_000) -> Levels:
    found = Levels(PrioritizerPolicy(arrivals=arrivals))
    for level in levels:
        found.record(level)
    return found


def test_a_threshold_turns_away_no_more_than_the_share():
    levels = levels_of(*range(100))

    assert levels.threshold(0.0) == 0
    assert levels.threshold(0.25) == 25
    assert levels.threshold(0.255) == 25


def test_critical_is_never_below_the_threshold():
    levels = levels_of(*[350] * 100)

    assert levels.threshold(0.95) == Priority.CRITICAL.base_level


def test_no_job_is_turned_away_while_nothing_is_known_of_arrivals():
    assert levels_of().threshold(0.95) == 0


def test_only_the_last_arrivals_count():
    levels = levels_of(*range(100), *[50] * 10, arrivals=10)

    assert levels.threshold(0.5) == 50


@pytest.mark.parametrize(
    "signals",
    [
        Signals(arrived=90, ended=50, free=0, limit=20),
        Signals(limit=10, queueing_ms=40.0),
        Signals(limit=10, lag_ms=100.0),
        Signals(limit=10, outside=1.5),
    ],
)
def test_each_signal_alone_raises_the_share(signals):
    assert error_of(POLICY, signals) > 0
    assert next_ratio(POLICY, 0.2, signals) > 0.2


def test_the_share_is_bounded_and_gone_four_seconds_after_the_load():
    ratio = 0.0
    for _ in range(20):
        ratio = next_ratio(POLICY, ratio, Signals(10_000, 10, 0, 20))
    assert ratio == POLICY.max_ratio
    idle = Signals(free=20, limit=20)

    windows = 0
    while ratio > 0:
        ratio, windows = next_ratio(POLICY, ratio, idle), windows + 1

    assert windows * POLICY.window_ms <= 4_000


def test_a_draw_becomes_a_level_of_its_priority():
    assert level_of(Priority.HIGH, 0.0) == 200
    assert level_of(Priority.HIGH, 0.999) == 299


def test_a_users_draw_is_stable_within_the_hour_and_spread_evenly():
    draws = [stable_draw(f"user-{n}", hour=1) for n in range(2_000)]

    assert draws[7] == stable_draw("user-7", hour=1) != stable_draw("user-7", hour=2)
    assert all(0 <= u < 1 for u in draws)
    assert 0.47 < sum(draws) / len(draws) < 0.53


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_ms": 0},
        {"arrivals": 0},
        {"gain": 0.0},
        {"gain": 1.1},
        {"max_ratio": 1.0},
        {"queueing_ms": 0.0},
        {"lag_ms": 0.0},
    ],
)
def test_settings_out_of_bounds_are_refused(wrong):
    with pytest.raises(ConfigError):
        PrioritizerPolicy(**wrong)


def test_an_empty_lane_starts_at_once_even_if_its_rate_is_unknown():
    assert eta_s(LaneFacts(0, None)) == 0.0


def test_a_lane_without_a_worker_finishes_nothing():
    stuck = LaneFacts(waiting=1, rate_per_s=0.0)

    assert not is_feasible(OutlookPolicy(), stuck, left_s=1e9)
    assert is_feasible(OutlookPolicy(), stuck, left_s=None)
    assert retry_after_s(OutlookPolicy(), stuck, 5.0, u=0.0) == 3_600.0


def test_what_is_not_known_is_taken_for_feasible():
    assert is_feasible(OutlookPolicy(), None, left_s=1.0)
    assert is_feasible(OutlookPolicy(), LaneFacts(9, None), left_s=1.0)
    assert retry_after_s(OutlookPolicy(), None, None, u=0.0) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"safety": 0.9}, {"min_retry_s": 0.0}, {"max_retry_s": 0.5}, {"jitter": -0.1}],
)
def test_an_outlook_out_of_bounds_is_refused(wrong):
    with pytest.raises(ConfigError):
        OutlookPolicy(**wrong)
