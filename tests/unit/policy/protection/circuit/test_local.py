from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.protection.circuit.evidence import (
    CallEnd,
    CallOutcome,
    EvidencePolicy,
)
from shifter.policy.protection.circuit.local import LocalCircuit
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    Closed,
    HalfOpen,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency

OK, BAD = CallEnd(CallOutcome.SUCCESS, 1), CallEnd(CallOutcome.FAILURE, 1)
EVIDENCE = EvidencePolicy(consecutive_failures=2, slow_call_ms=100)
CIRCUIT = CircuitPolicy(cooldown_ms=1_000)


def opened() -> LocalCircuit:
    guard = LocalCircuit(Dependency("db", circuit=CIRCUIT, evidence=EVIDENCE))
    permits = [guard.admit(0), guard.admit(0)]
    assert guard.record(permits[0], BAD, now_ms=0, u=0.0) is False
    assert guard.record(permits[1], BAD, now_ms=0, u=0.0) is True
    return guard


def test_enough_evidence_opens_it_and_a_good_probe_closes_it():
    guard = opened()
    assert guard.admit(499) == CircuitRefusal(1)

    probe = guard.admit(500)
    assert guard.record(probe, OK, now_ms=501, u=0.0) is True
    assert guard.state == Closed(3)


def test_what_was_seen_before_an_opening_does_not_open_it_again():
    guard = opened()
    guard.record(guard.admit(500), OK, now_ms=501, u=0.0)

    assert guard.record(guard.admit(502), BAD, now_ms=503, u=0.0) is False
    assert guard.state == Closed(3)


def test_a_call_of_before_the_opening_is_no_evidence_after_it():
    guard = opened()
    guard.record(guard.admit(500), OK, now_ms=501, u=0.0)
    for _ in range(50):
        assert guard.record(Permit(0), BAD, now_ms=502, u=0.0) is False

    assert guard.state == Closed(3)


def test_a_probe_that_is_slow_has_failed():
    guard = opened()
    probe = guard.admit(500)
    assert isinstance(guard.state, HalfOpen)

    slow = CallEnd(CallOutcome.SUCCESS, 100)
    assert guard.record(probe, slow, now_ms=600, u=0.0) is True
    assert guard.state == Open(3, 2, 1_600)


def test_the_wait_that_was_asked_for_holds():
    guard = opened()
    end = CallEnd(CallOutcome.THROTTLED, 1, retry_after_ms=9_000)
    guard.record(guard.admit(500), end, now_ms=501, u=0.0)

    assert guard.state == Open(3, 2, 9_501)


def test_what_it_opened_for_is_said_for_a_while():
    guard = opened()

    assert guard.tally(1_999).failures == 2
    assert guard.tally(2_000).failures == 0


def test_what_the_fleet_decides_ends_what_a_process_thought():
    guard = opened()
    guard.reset()

    assert isinstance(guard.admit(1), Permit)
    assert guard.tally(1).calls == 0


def test_a_name_that_cannot_be_a_key_is_refused():
    with pytest.raises(ConfigError, match="dependency"):
        Dependency("Mail server")


def test_an_unknown_protection_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="circuit, limit, budget, rate"):
        Dependency("db", dark=["shed"])
