from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.protection.limit import (
    LimitMode,
    LimitPolicy,
    LimitSample,
    LimitState,
    adjust,
    may_start,
)
from shifter.policy.protection.rate import RatePolicy, TakenCalls, take

POLICY = LimitPolicy()
START = LimitState(20.0, 10.0)


def busy(inflight=20.0, p90_ms=10.0, dropped=0, per_s=2_000.0, calls=100):
    return LimitSample(calls, inflight, per_s, p90_ms, dropped)


def test_a_limit_that_is_used_and_causes_no_queue_grows():
    assert adjust(POLICY, START, busy()).limit > 21


def test_a_limit_that_is_not_used_does_not_grow():
    assert adjust(POLICY, START, busy(inflight=9)).limit == 20


def test_a_queue_makes_it_smaller_a_middling_one_leaves_it():
    assert adjust(POLICY, START, busy(p90_ms=20)).limit < 20
    assert adjust(POLICY, START, busy(p90_ms=13)).limit == 20


def test_a_dropped_call_takes_a_tenth():
    assert adjust(POLICY, START, busy(dropped=1)).limit == 18


def test_it_cannot_climb_while_everything_is_equally_slow():
    policy = LimitPolicy(objective_ms=500)
    state = LimitState(20.0, 2_000.0)
    for _ in range(100):
        state = adjust(policy, state, busy(inflight=state.limit, p90_ms=2_000))

    assert state.limit == policy.minimum


def test_more_at_once_that_brings_only_latency_is_vetoed():
    state = LimitState(20.0, 10.0)
    for _ in range(60):
        # A dependency that does 2000 calls a second whatever it is asked.
        p90_ms = 10.0 + state.limit / 100
        sample = busy(inflight=state.limit, p90_ms=p90_ms)
        state = adjust(POLICY, state, sample)

    assert state.limit < 60


def test_a_dependency_with_room_is_used():
    state = LimitState(20.0)
    for _ in range(200):
        sample = busy(inflight=state.limit, per_s=100 * state.limit)
        state = adjust(POLICY, state, sample)

    assert state.limit == POLICY.maximum


def test_it_comes_back_after_an_outage():
    state = START
    for _ in range(60):
        state = adjust(POLICY, state, busy(dropped=5))
    assert state.limit == POLICY.minimum

    for _ in range(60):
        sample = busy(inflight=state.limit, per_s=100 * state.limit)
        state = adjust(POLICY, state, sample)
    assert state.limit > 20


@pytest.mark.parametrize(
    "sample", [busy(calls=49), busy(p90_ms=0), busy(p90_ms=float("nan"))]
)
def test_a_window_without_evidence_changes_nothing(sample):
    assert adjust(POLICY, START, sample) is START


def test_a_fixed_limit_stays_and_a_shadow_learns():
    fixed, shadow = (LimitPolicy(mode=mode) for mode in (LimitMode.FIXED, "shadow"))

    assert adjust(fixed, START, busy(dropped=9)) is START
    assert adjust(shadow, START, busy(dropped=9)).limit == 18


@pytest.mark.parametrize(
    ("priority", "most"),
    [("CRITICAL", 20), ("HIGH", 19), ("NORMAL", 17), ("LOW", 12)],
)
def test_each_priority_fills_the_limit_up_to_its_ceiling(priority, most):
    assert may_start(20.9, most - 1, Priority(priority))
    assert not may_start(20.9, most, Priority(priority))


@pytest.mark.parametrize("priority", list(Priority))
def test_with_room_for_one_call_each_priority_may_have_it(priority):
    assert may_start(1.0, 0, priority)
    assert not may_start(1.0, 1, priority)


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("minimum", {"minimum": 0}),
        ("maximum", {"maximum": 0}),
        ("initial", {"initial": 300}),
        ("initial", {"minimum": 30}),
        ("objective_ms", {"objective_ms": 0}),
        ("min_samples", {"min_samples": 0}),
        ("tolerance", {"tolerance": float("nan")}),
        ("tolerance", {"tolerance": 0.5}),
    ],
)
def test_a_contradiction_is_refused_with_its_field(field, settings):
    with pytest.raises(ConfigError) as caught:
        LimitPolicy(**settings)

    assert caught.value.field == field


def test_a_burst_passes_at_once_and_then_one_each_interval():
    policy = RatePolicy(per_s=10, burst=3)

    def taken(spread_us, now_us):
        return take(policy.wish("mailer", 9), spread_us, now_us=now_us)

    spread_us = 10**9 + 300_000
    assert taken(0, 10**9) == TakenCalls(3, 0, spread_us)
    assert taken(spread_us, 10**9) == TakenCalls(0, 100_000, spread_us)
    assert taken(spread_us, 10**9 + 99_999) == TakenCalls(0, 1, spread_us)
    assert taken(spread_us, 10**9 + 100_000).calls == 1


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("per_s", {"per_s": 0}),
        ("per_s", {"per_s": -1}),
        ("per_s", {"per_s": float("nan")}),
        ("per_s", {"per_s": 1e-9}),
        ("burst", {"per_s": 1, "burst": 0}),
    ],
)
def test_a_rate_of_nothing_is_refused(field, settings):
    with pytest.raises(ConfigError, match=field):
        RatePolicy(**settings)
