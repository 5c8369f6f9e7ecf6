"""The guards of one process: limit, budget and rate, on plain values."""

from __future__ import annotations

import pytest

from shifter import Priority
from shifter.fleet.guards import (
    CallPermit,
    CallRequest,
    LimitGuard,
    RetryLease,
)
from shifter.fleet.rate_lease import RateLease
from shifter.model.fleet import RateGrant
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.circuit.states import Permit
from shifter.policy.protection.limit import LimitMode
from shifter.protection import BudgetPolicy, LimitPolicy, RatePolicy, ThrottlePolicy

PERMIT = CallPermit(Permit(0), Permit(0))
PROBE = CallPermit(Permit(0, probe=1), Permit(-1))
NO_FLOOR = BudgetPolicy(ratio=0.5, floor_per_s=0)


def request(priority=Priority.NORMAL, *, is_extra=False, now_ms=0, permit=PERMIT):
    asked = CallRequest(priority, is_extra=is_extra, now_ms=now_ms)
    asked.permit, asked.is_probe = permit, permit.is_probe
    return asked


def call_ended(outcome=CallOutcome.SUCCESS, took_ms=10, *, was_cut=False):
    return CallEnd(outcome, took_ms, was_cut=was_cut)


def begin(guard, asked):
    answer = guard.admit(asked)
    if answer is None:
        guard.begin(asked)
    return answer


def fixed(initial):
    return LimitGuard(LimitPolicy(mode=LimitMode.FIXED, initial=initial))


def test_limit_refuses_a_call_beyond_its_size():
    guard = fixed(2)

    answers = [begin(guard, request(Priority.CRITICAL)) for _ in range(3)]

    assert answers[:2] == [None, None]
    assert answers[2] > 0
    assert guard.inflight == 2


def test_limit_keeps_room_for_urgent_calls():
    guard = fixed(10)
    while begin(guard, request(Priority.LOW)) is None:
        pass

    assert guard.inflight == 6
    assert begin(guard, request(Priority.CRITICAL)) is None


def test_limit_has_room_again_after_a_call_ended():
    guard = fixed(1)
    begin(guard, request(Priority.CRITICAL))

    has_changed = guard.ended(PERMIT, call_ended(), now_ms=5)

    assert not has_changed
    assert guard.admit(request(Priority.CRITICAL)) is None


def test_limit_reserves_nothing_for_a_call_that_another_guard_refuses():
    guard = fixed(1)
    asked = request(Priority.CRITICAL)

    guard.admit(asked)
    guard.give_back(asked)

    assert guard.inflight == 0


def test_shadow_limit_refuses_nothing():
    guard = LimitGuard(LimitPolicy(mode=LimitMode.SHADOW, initial=1))

    assert all(begin(guard, request()) is None for _ in range(5))
    assert guard.inflight == 5


@pytest.mark.parametrize(
    ("end", "is_lower"),
    [
        (call_ended(CallOutcome.SUCCESS), False),
        (call_ended(CallOutcome.THROTTLED), True),
        (call_ended(CallOutcome.FAILURE, was_cut=True), True),
        (call_ended(CallOutcome.IGNORED, was_cut=True), False),
    ],
)
def test_adaptive_limit_is_lowered_by_calls_that_were_throttled_or_cut(end, is_lower):
    guard = LimitGuard(LimitPolicy(initial=20, min_samples=1))
    for _ in range(10):
        begin(guard, request(Priority.CRITICAL))

    for now_ms in range(0, 1_200, 120):
        guard.ended(PERMIT, end, now_ms=now_ms)

    assert (guard.state.limit < 20) is is_lower


def test_budget_admits_a_first_call_and_earns_from_it_when_it_begins():
    guard = RetryLease("bank", NO_FLOOR)

    assert guard.admit(request(is_extra=True)) is not None
    for _ in range(2):
        begin(guard, request(Priority.CRITICAL))

    assert guard.admit(request(Priority.CRITICAL, is_extra=True)) is None
    assert guard.admit(request(Priority.CRITICAL, is_extra=True)) is not None


def test_budget_earns_nothing_from_a_probe():
    guard = RetryLease("bank", NO_FLOOR)
    for _ in range(10):
        guard.begin(request(permit=PROBE))

    assert guard.admit(request(Priority.CRITICAL, is_extra=True)) is not None


def test_budget_that_did_not_charge_a_call_gives_nothing_back():
    guard = RetryLease("bank", NO_FLOOR)
    guard.settle(peers=1)
    guard.granted((1, 0, 0, 0), 0)
    paid, unpaid = (request(Priority.CRITICAL, is_extra=True) for _ in range(2))
    assert guard.admit(paid) is None
    assert guard.admit(unpaid) is not None

    guard.give_back(unpaid)
    assert guard.admit(request(Priority.CRITICAL, is_extra=True)) is not None
    guard.give_back(paid)
    guard.give_back(paid)

    assert guard.admit(request(Priority.CRITICAL, is_extra=True)) is None
    assert guard.admit(request(Priority.CRITICAL, is_extra=True)) is not None


def test_throttle_refuses_retries_after_failures_until_calls_succeed():
    throttle = ThrottlePolicy(max_tokens=4, token_ratio=1.0)
    guard = RetryLease("bank", BudgetPolicy(floor_per_s=100), throttle)
    for _ in range(2):
        guard.ended(PERMIT, call_ended(CallOutcome.FAILURE), now_ms=0)
    assert guard.admit(request(is_extra=True)) is not None

    guard.ended(PERMIT, call_ended(CallOutcome.IGNORED), now_ms=0)
    assert guard.admit(request(is_extra=True)) is not None
    guard.ended(PERMIT, call_ended(CallOutcome.SUCCESS), now_ms=0)

    assert guard.admit(request(is_extra=True)) is None


def test_rate_admits_as_many_calls_as_were_granted_until_the_lease_ends():
    guard = RateLease("bank", RatePolicy(per_s=10))
    guard.settle(peers=1)
    guard.granted(RateGrant(2, 0), 0)

    answers = [guard.admit(request()) for _ in range(3)]

    assert answers[:2] == [None, None]
    assert answers[2] > 0
    guard.granted(RateGrant(1, 0), 0)
    assert guard.admit(request(now_ms=1_000)) is not None


def test_rate_admits_another_call_for_one_that_was_given_back():
    guard, asked = RateLease("bank", RatePolicy(per_s=10)), request()
    guard.settle(peers=1)
    guard.granted(RateGrant(1, 0), 0)

    guard.admit(asked)
    guard.give_back(asked)

    assert guard.admit(request()) is None


def test_lease_of_retries_ends_with_its_time():
    guard = RetryLease("bank", BudgetPolicy(lease_ms=500))
    guard.settle(peers=1)
    guard.granted((0, 0, 2, 0), 0)

    assert guard.spend(Priority.NORMAL, 499)
    assert not guard.spend(Priority.NORMAL, 500)


def test_lease_of_one_priority_is_not_spent_by_another():
    guard = RetryLease("bank", BudgetPolicy())
    guard.settle(peers=1)
    guard.granted((1, 0, 0, 0), 0)

    assert not guard.spend(Priority.LOW, 0)
    assert guard.spend(Priority.CRITICAL, 0)


def test_lease_asks_for_the_retries_that_were_missing():
    guard = RetryLease("bank", BudgetPolicy())
    guard.settle(peers=1)
    for _ in range(3):
        guard.spend(Priority.LOW, 0)

    assert guard.wish(0).wants == (0, 0, 0, 3)
    guard.granted((0, 0, 0, 1), 0)
    assert guard.is_exhausted(0)
    assert guard.wish(0) is None


def test_lease_reports_first_attempts_once_a_second():
    guard = RetryLease("bank", BudgetPolicy(ratio=0.5))
    guard.settle(peers=1)
    for _ in range(4):
        guard.begin(request())

    assert guard.wish(999) is None
    assert guard.wish(1_000).deposit_milli == 2_000
    guard.granted((0, 0, 0, 0), 1_000)
    assert guard.wish(9_000) is None


def test_wish_whose_answer_was_lost_is_not_reported_again():
    guard = RetryLease("bank", BudgetPolicy(ratio=0.5))
    guard.settle(peers=1)
    guard.begin(request())
    assert guard.wish(1_000) is not None

    guard.settle(peers=None)
    guard.settle(peers=1)

    assert guard.wish(9_000) is None


def test_process_without_a_store_repays_at_most_its_share_of_the_floor():
    guard = RetryLease("bank", BudgetPolicy(floor_per_s=10, ttl_ms=10_000))
    while guard.spend(Priority.CRITICAL, 0):
        pass

    guard.settle(peers=4)

    assert guard.wish(9_000).deposit_milli == -25_000


def test_process_without_a_store_takes_its_share_of_the_floor():
    guard = RetryLease("bank", BudgetPolicy(floor_per_s=10, ttl_ms=10_000))
    guard.settle(peers=4)
    guard.settle(peers=None)

    spent = 0
    while guard.spend(Priority.CRITICAL, 0):
        spent += 1

    assert spent == 25


def test_rate_without_a_store_is_the_share_of_this_process():
    guard = RateLease("bank", RatePolicy(per_s=10))
    guard.settle(peers=2)
    guard.settle(peers=None)

    admitted = sum(guard.admit(request(now_ms=at)) is None for at in range(1_000))

    assert admitted == 5


def test_rate_does_not_ask_again_before_a_call_may_be_granted():
    guard = RateLease("bank", RatePolicy(per_s=1))
    guard.settle(peers=1)
    guard.admit(request())
    assert guard.wish(0).want == 1
    guard.granted(RateGrant(0, 700_000), 0)
    guard.admit(request(now_ms=1))

    assert guard.wish(699) is None
    assert guard.wish(700).want == 1


def prompt(guard, now_ms, priority=Priority.CRITICAL):
    return guard.spend(priority, now_ms, is_prompt=True)


def shared(policy, *, peers=2):
    """A lease of a process whose store answers."""
    guard = RetryLease("mailer", policy)
    guard.settle(peers)
    return guard


def test_prompt_retry_without_a_lease_is_spent_from_what_the_process_earned():
    guard = shared(NO_FLOOR)
    assert not prompt(guard, 0)
    for _ in range(4):
        begin(guard, request())

    answers = [prompt(guard, 0) for _ in range(3)]

    assert answers == [True, True, False]
    assert not guard.spend(Priority.CRITICAL, 0)  # another one needs a lease


def test_prompt_retries_share_the_floor_between_processes():
    policy = BudgetPolicy(ratio=0, floor_per_s=1)
    guard = shared(policy, peers=5)
    assert [prompt(guard, 0) for _ in range(4)] == [True, True, False, False]


def test_a_process_borrows_five_retries_and_more_when_the_store_has_some():
    guard = shared(BudgetPolicy(ratio=0, floor_per_s=100))
    assert [prompt(guard, 0) for _ in range(7)] == [True] * 5 + [False] * 2
    asked = guard.wish(200)
    assert (asked.deposit_milli, asked.wants) == (-5_000, (3, 0, 0, 0))

    guard.granted((3, 0, 0, 0), 200)

    assert [prompt(guard, 300) for _ in range(9)] == [True] * 8 + [False]


def test_a_process_whose_store_has_none_left_borrows_none_until_it_grants_one():
    guard = shared(BudgetPolicy(ratio=0, floor_per_s=100))
    assert prompt(guard, 0)
    guard.wish(200)
    guard.granted((0, 0, 0, 0), 200)
    assert not prompt(guard, 300)
    guard.wish(400)
    guard.granted((1, 0, 0, 0), 400)
    assert [prompt(guard, 500) for _ in range(7)] == [True] * 6 + [False]


def test_prompt_retry_uses_a_lease_first():
    guard = shared(NO_FLOOR)
    guard.granted((1, 0, 0, 0), 0)
    for _ in range(2):
        begin(guard, request())
    assert prompt(guard, 0)
    # What a lease spends counts as spent by the process too.
    assert not prompt(guard, 0)


def test_prompt_retries_are_reported_once_also_when_spent_during_a_sync():
    guard = shared(BudgetPolicy(ratio=0, floor_per_s=10))
    assert prompt(guard, 2_000)
    assert guard.wish(2_000).deposit_milli == -1_000
    assert prompt(guard, 2_001)

    guard.granted((0, 0, 0, 0), 2_002)

    assert guard.wish(4_000).deposit_milli == -1_000
    guard.granted((0, 0, 0, 0), 4_001)
    assert guard.wish(6_000) is None
