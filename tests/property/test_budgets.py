"""Budgets and limits under any sequence: never more than allowed, never stuck."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.policy.protection.budget import URGENT_FIRST, Budget, BudgetPolicy, serve
from shifter.policy.protection.limit import (
    LimitPolicy,
    LimitSample,
    LimitState,
    adjust,
    may_start,
)
from shifter.policy.protection.quality import QualityPolicy, QualityState, observe
from shifter.policy.protection.rate import RatePolicy, take

budgets = st.builds(
    BudgetPolicy,
    ratio=st.sampled_from([0, 0.1, 0.2, 1.0, 3.5]),
    floor_per_s=st.integers(0, 5),
    ttl_ms=st.sampled_from([1_000, 2_000]),
    lease_ms=st.integers(1, 1_000),
)
priorities = st.sampled_from(Priority)
actions = st.lists(
    st.tuples(st.booleans(), st.integers(0, 400), st.integers(1, 30), priorities),
    max_size=60,
)


@given(budgets, actions)
@settings(max_examples=300)
def test_retries_of_every_stretch_are_within_what_it_earned_and_the_floor(
    policy, actions
):
    budget, now_ms, firsts, retries = Budget(policy), 0, [], []
    for is_first, gap_ms, count, priority in actions:
        now_ms += gap_ms
        if is_first:
            budget.deposit(now_ms, count)
            firsts.append((now_ms, count))
            continue
        granted = budget.withdraw(now_ms, priority, count)
        assert 0 <= granted <= count
        # A lease may be spent as late as it ends, the earlier ones with it.
        retries.append((now_ms, granted))
        since_ms = now_ms - policy.ttl_ms
        earned = sum(n for at, n in firsts if at > since_ms) * policy.deposit_milli
        made = sum(n for at, n in retries if at > since_ms - policy.lease_ms)
        if granted:
            assert made * 1_000 <= policy.floor_milli + earned


@given(budgets, actions)
def test_what_is_shared_is_granted_as_it_is_to_one(policy, actions):
    budget, row, now_ms = Budget(policy), {}, 10**12
    for is_first, gap_ms, count, priority in actions:
        now_ms += gap_ms
        wants = [0 if is_first else count * (p is priority) for p in URGENT_FIRST]
        firsts = count if is_first else 0
        earned_milli = firsts * policy.deposit_milli
        asked = policy.wish("mailer", earned_milli, tuple(wants))
        row, granted = serve(row, asked, now_ms=now_ms)
        budget.deposit(now_ms, firsts)
        alone = [
            budget.withdraw(now_ms, p, n)
            for p, n in zip(URGENT_FIRST, wants, strict=True)
        ]
        assert list(granted) == alone
        assert len(row) <= policy.withdrawal_buckets


@given(budgets, actions)
def test_whatever_a_lower_priority_gets_a_higher_one_gets_too(policy, actions):
    order = sorted(Priority, key=lambda priority: priority.rank)
    granted = []
    for asking in order:
        budget, now_ms = Budget(policy), 0
        for is_first, gap_ms, count, priority in actions:
            now_ms += gap_ms
            if is_first:
                budget.deposit(now_ms, count)
            else:
                budget.withdraw(now_ms, priority, count)
        granted.append(budget.withdraw(now_ms, asking, 10**6))

    assert granted == sorted(granted)


@given(budgets.filter(lambda policy: policy.floor_per_s > 1), actions)
def test_a_budget_with_a_floor_comes_back_for_every_priority(policy, actions):
    budget, now_ms = Budget(policy), 0
    for is_first, gap_ms, count, priority in actions:
        now_ms += gap_ms
        if is_first:
            budget.deposit(now_ms, count)
        else:
            budget.withdraw(now_ms, priority, count)

    assert budget.withdraw(now_ms + 3 * policy.ttl_ms, Priority.LOW) == 1


asks = st.lists(
    st.tuples(st.integers(0, 2_000_000), st.integers(1, 9)), min_size=1, max_size=50
)
rates = st.builds(RatePolicy, per_s=st.floats(0.5, 10_000), burst=st.integers(1, 20))


@given(rates, asks)
def test_calls_of_every_stretch_are_within_the_burst_and_the_rate(policy, asks):
    spread_us, now_us, made = 0, 10**9, []
    for gap_us, want in asks:
        now_us += gap_us
        calls, _, spread_us = take(policy.wish("m", want), spread_us, now_us=now_us)
        assert 0 <= calls <= want
        if calls:
            made.append((now_us, calls))
        for begin_us, _ in made:
            calls = sum(n for at, n in made if at >= begin_us)
            in_rate = (now_us - begin_us) // policy.interval_us
            assert calls <= policy.burst + in_rate


@given(rates, asks)
def test_a_caller_that_waits_as_long_as_asked_may_call_and_no_sooner(policy, asks):
    spread_us, now_us = 0, 10**9
    for gap_us, want in asks:
        now_us += gap_us
        asked = policy.wish("m", want)
        taken = take(asked, spread_us, now_us=now_us)
        if not taken.calls:
            at_us = now_us + taken.wait_us
            assert take(asked, taken.spread_us, now_us=at_us - 1).calls == 0
            assert take(asked, taken.spread_us, now_us=at_us).calls == 1
        spread_us = taken.spread_us


samples = st.builds(
    LimitSample,
    calls=st.integers(0, 500),
    inflight=st.floats(0, 300),
    per_s=st.floats(0, 10_000),
    p90_ms=st.floats(0, 60_000),
    dropped=st.integers(0, 3),
)
limits = st.tuples(st.integers(1, 10), st.integers(0, 50), st.integers(0, 200)).map(
    lambda t: LimitPolicy(minimum=t[0], initial=t[0] + t[1], maximum=t[0] + t[1] + t[2])
)


@given(limits, st.lists(samples, max_size=80))
def test_a_limit_stays_in_its_bounds_and_always_lets_a_call_in(policy, samples):
    state = LimitState(float(policy.initial))
    for sample in samples:
        before, state = state, adjust(policy, state, sample)
        assert policy.minimum <= state.limit <= policy.maximum
        assert len(state.history) <= 50
        if 2 * sample.inflight < before.limit:
            assert state.limit <= before.limit
        for priority in Priority:
            assert may_start(state.limit, 0, priority)
            assert not may_start(state.limit, int(state.limit), priority)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5_000)), max_size=80))
def test_the_quality_moves_one_step_and_no_faster_than_its_marks_allow(loads):
    policy, state, now_ms, moved_ms = QualityPolicy(), QualityState(), 0, None
    steps = list(Quality)
    for load, gap_ms in loads:
        now_ms += gap_ms
        before, state = state, observe(policy, state, load=load, now_ms=now_ms)
        distance = steps.index(state.quality) - steps.index(before.quality)
        assert abs(distance) <= 1
        if distance:
            assert (load >= policy.lower_at) is (distance > 0)
            assert (load <= policy.raise_at) is (distance < 0)
            if moved_ms is not None:
                least = policy.lower_after_ms if distance > 0 else policy.raise_after_ms
                assert now_ms - moved_ms >= least
            moved_ms = now_ms
