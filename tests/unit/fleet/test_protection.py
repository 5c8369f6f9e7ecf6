"""The protections of one dependency: the order of the guards, and the dark ones."""

from __future__ import annotations

import random

import pytest

from shifter import Priority
from shifter.fleet.breaker import StoreContact
from shifter.fleet.guards import CallPermit
from shifter.fleet.protection import DependencyProtection, Rejected
from shifter.fleet.shared_state import OverrideCell, circuit_text
from shifter.model.reason import Reason
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.circuit.states import Closed, Open, Permit
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.policy.protection.limit import LimitMode
from shifter.protection import (
    BudgetPolicy,
    CircuitPolicy,
    EvidencePolicy,
    FailureBurstPolicy,
    LimitPolicy,
    RatePolicy,
)

FAILED = CallEnd(CallOutcome.FAILURE, 10)
ALL = {
    "limit": LimitPolicy(mode=LimitMode.FIXED, initial=1),
    "budget": BudgetPolicy(ratio=0, floor_per_s=0),
    "rate": RatePolicy(per_s=1),
    "evidence": EvidencePolicy(min_calls=2),
}


def protection(**options):
    dependency = Dependency("bank", **options)
    return DependencyProtection(dependency, random.Random(1), StoreContact())


def admit(guarded, *, is_extra=False, now_ms=0, priority=Priority.CRITICAL):
    return guarded.admit(priority, is_extra=is_extra, now_ms=now_ms)


def open_circuit(guarded):
    for now_ms in (0, 10):
        permit = admit(guarded, now_ms=now_ms)
        guarded.ended(permit, FAILED, now_ms=now_ms)
    assert isinstance(guarded.breaker.own.state, Open)


def refused(guarded):
    return {by.value for by, count in guarded.refused.items() if count}


def test_circuit_is_asked_before_the_other_guards():
    guarded = protection(**(ALL | {"rate": RatePolicy(per_s=1_000)}))
    open_circuit(guarded)

    answer = admit(guarded, is_extra=True, now_ms=20)

    assert answer.by is Protection.CIRCUIT
    assert answer.reason is Reason.CIRCUIT_OPEN
    assert refused(guarded) == {"circuit"}


@pytest.mark.parametrize(
    ("left_out", "by"),
    [((), "limit"), (("limit",), "budget"), (("limit", "budget"), "rate")],
)
def test_first_guard_that_refuses_is_the_answer(left_out, by):
    guarded = protection(**{k: v for k, v in ALL.items() if k not in left_out})
    admit(guarded)

    answer = admit(guarded, is_extra=True)

    assert isinstance(answer, Rejected)
    assert answer.by == by
    assert answer.wait_ms > 0
    assert refused(guarded) == {by}


def test_call_that_the_budget_refuses_gives_back_its_share_of_the_ramp():
    circuit = CircuitPolicy(ramp_ms=1_000)
    guarded = protection(circuit=circuit, budget=ALL["budget"])
    for state in (Open(1, 1, 0), Closed(2)):
        guarded.circuit.learn(circuit_text(state), 0)

    refusals = [admit(guarded, is_extra=True, now_ms=500) for _ in range(100)]

    assert {answer.by for answer in refusals} == {Protection.BUDGET}
    assert isinstance(admit(guarded, now_ms=500), CallPermit)


def test_retry_that_the_rate_refuses_is_not_charged():
    guarded = protection(rate=RatePolicy(per_s=1))
    guarded.retries.settle(peers=1)
    guarded.retries.granted((1, 0, 0, 0), 0)
    admit(guarded)

    assert admit(guarded, is_extra=True).by is Protection.RATE

    assert guarded.retries.spend(Priority.CRITICAL, 0)


def test_dark_guards_count_and_refuse_nothing():
    guarded = protection(dark=list(Protection), **ALL)
    open_circuit(guarded)
    admit(guarded)

    assert isinstance(admit(guarded, is_extra=True), CallPermit)

    assert refused(guarded) == set()
    assert {by.value for by, n in guarded.would_refuse.items() if n} == {
        "circuit",
        "limit",
        "budget",
        "rate",
    }


def test_probe_of_a_half_open_circuit_bypasses_the_other_guards():
    circuit = CircuitPolicy(cooldown_ms=1_000)
    guarded = protection(
        **(ALL | {"circuit": circuit, "rate": RatePolicy(per_s=1_000)})
    )
    open_circuit(guarded)
    guarded.limit.inflight = 1  # full

    answer = admit(guarded, is_extra=True, now_ms=60_000)

    assert isinstance(answer, CallPermit)
    assert answer.is_probe
    assert guarded.limit.inflight == 2


def test_released_call_leaves_the_limit_and_is_no_evidence():
    guarded = protection(**ALL)
    permit = admit(guarded)

    guarded.release(permit, now_ms=0)

    assert guarded.limit.inflight == 0
    assert guarded.breaker.own.tally(0).calls == 0


def test_call_of_a_child_counts_only_if_it_was_cut():
    guarded = protection(evidence=EvidencePolicy(min_calls=2))
    permit = CallPermit(admit(guarded).shared, Permit(0))

    guarded.child_ended(permit, FAILED, now_ms=0)
    assert guarded.breaker.own.tally(0).calls == 0
    guarded.child_ended(permit, CallEnd(FAILED.outcome, 10, was_cut=True), now_ms=0)

    assert guarded.breaker.own.tally(0).calls == 1


def test_burst_of_one_failure_implicates_the_dependency_and_opens_its_circuit():
    burst = FailureBurstPolicy()
    guarded = protection(letters=burst)

    answers = [
        guarded.job_ended("shop.mail.normal", "ValueError@send", now_ms=0)
        for _ in range(200)
    ]

    assert answers[0] is False
    assert answers[-1] is True
    assert isinstance(guarded.breaker.own.state, Open)


def test_operator_who_opens_the_circuit_is_obeyed_until_the_override_ends():
    guarded = protection()
    guarded.circuit.by_hand = OverrideCell("open", "ann", "maintenance", 10_000)

    assert admit(guarded, now_ms=0).by is Protection.CIRCUIT
    assert isinstance(admit(guarded, now_ms=10_000), CallPermit)


def test_report_of_an_idle_dependency_is_kept_for_two_seconds():
    guarded = protection()
    first = guarded.report(0)

    assert guarded.unchanged_report(1_999) is first
    assert guarded.unchanged_report(2_000) is None
    guarded.report(2_000)
    admit(guarded, now_ms=2_001)
    assert guarded.unchanged_report(2_001) is None


def test_closed_circuit_admits_without_a_refusal_counted():
    guarded = protection()

    assert isinstance(admit(guarded), CallPermit)
    assert isinstance(guarded.breaker.own.state, Closed)
    assert refused(guarded) == set()
