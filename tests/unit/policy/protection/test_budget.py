from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.protection.budget import Budget, BudgetPolicy
from shifter.policy.protection.throttle import (
    DoNotRetry,
    RetryAfter,
    ThrottlePolicy,
    after_call,
    full,
    may_retry,
    push_back,
)

CRITICAL = Priority.CRITICAL
EARNED_ONLY = BudgetPolicy(floor_per_s=0)


def test_the_floor_is_there_from_the_start_and_no_more():
    budget = Budget(BudgetPolicy())

    assert budget.withdraw(0, CRITICAL, 1_000) == 100
    assert budget.withdraw(0, CRITICAL) == 0


def test_five_first_attempts_earn_one_retry():
    budget = Budget(EARNED_ONLY)
    budget.deposit(0, 4)
    assert budget.withdraw(0, CRITICAL) == 0

    budget.deposit(0)
    assert budget.withdraw(0, CRITICAL, 2) == 1
    assert budget.sums_milli(0) == (1_000, 1_000)


def test_deposits_end_with_the_ttl():
    budget = Budget(EARNED_ONLY)
    budget.deposit(0, 50)

    assert budget.sums_milli(9_499) == (10_000, 0)
    assert budget.sums_milli(10_000) == (0, 0)
    assert budget.withdraw(10_000, CRITICAL) == 0


def test_a_budget_that_was_spent_comes_back():
    budget = Budget(BudgetPolicy())
    budget.withdraw(0, CRITICAL, 100)

    assert budget.withdraw(10_000, CRITICAL, 1) == 0
    assert budget.withdraw(11_000, CRITICAL, 100) == 100


@pytest.mark.parametrize(
    ("priority", "gets"),
    [("LOW", 50), ("NORMAL", 75), ("HIGH", 90), ("CRITICAL", 100)],
)
def test_each_priority_leaves_a_part_for_those_above(priority, gets):
    assert Budget(BudgetPolicy()).withdraw(0, Priority(priority), 1_000) == gets


def test_low_starves_first():
    budget = Budget(BudgetPolicy())
    budget.withdraw(0, CRITICAL, 60)

    assert budget.withdraw(0, Priority.LOW) == 0
    assert budget.withdraw(0, Priority.NORMAL) == 1


def test_nothing_is_ever_retried_without_ratio_and_floor():
    budget = Budget(BudgetPolicy(ratio=0, floor_per_s=0))
    budget.deposit(0, 10**9)

    assert budget.withdraw(0, CRITICAL) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ratio", float("nan")),
        ("ratio", -0.2),
        ("ratio", 0.0001),
        ("ratio", 1_001),
        ("ratio", "0.2"),
        ("floor_per_s", -1),
        ("floor_per_s", 2.5),
        ("ttl_ms", 0),
        ("ttl_ms", 999),
        ("ttl_ms", 61_000),
        ("lease_ms", 0),
        ("lease_ms", 10_001),
    ],
)
def test_a_contradiction_is_refused_with_its_field(field, value):
    with pytest.raises(ConfigError) as caught:
        BudgetPolicy(**{field: value})

    assert caught.value.field == field


def test_the_throttle_stops_retries_at_half_of_its_tokens():
    policy = ThrottlePolicy()
    tokens = full(policy)
    for _ in range(4):
        tokens = after_call(policy, tokens, ok=False)
    assert may_retry(policy, tokens)

    tokens = after_call(policy, tokens, ok=False)
    assert not may_retry(policy, tokens)
    assert may_retry(policy, after_call(policy, tokens, ok=True))


def test_the_throttle_stays_between_nothing_and_full():
    policy = ThrottlePolicy(token_ratio=0.0001)

    assert after_call(policy, 0, ok=False) == 0
    assert after_call(policy, 0, ok=True) == 1
    assert after_call(policy, full(policy), ok=True) == full(policy)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (None, None),
        ("0", RetryAfter(0)),
        ("2147483647", RetryAfter(2**31 - 1)),
        ("2147483648", DoNotRetry()),
        ("9" * 9_999, DoNotRetry()),
        ("-1", DoNotRetry()),
        ("", DoNotRetry()),
        (" 5", DoNotRetry()),
        ("\u0665", DoNotRetry()),
    ],
)
def test_a_push_back_is_parsed_strictly(text, answer):
    assert push_back(text) == answer


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", 0), ("token_ratio", 0), ("token_ratio", float("nan"))],
)
def test_a_throttle_of_nothing_is_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        ThrottlePolicy(**{field: value})
