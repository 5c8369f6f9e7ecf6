"""The fleet's circuit and this process's own as one guard, on virtual time."""

from __future__ import annotations

import random

from shifter.fleet.breaker import Breaker, StoreContact
from shifter.fleet.circuit import SharedCircuit
from shifter.fleet.guards import CallPermit, CallRequest
from shifter.fleet.shared_state import OverrideCell, circuit_text, read_circuit
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome, CallTally
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    Closed,
    HalfOpen,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency
from shifter.protection import CircuitPolicy, EvidencePolicy

POLICY = CircuitPolicy(cooldown_ms=1_000, probe_lease_ms=400, ramp_ms=0)
BANK = Dependency(
    "bank", circuit=POLICY, evidence=EvidencePolicy(consecutive_failures=2)
)
OK, FAILED = CallEnd(CallOutcome.SUCCESS, 1), CallEnd(CallOutcome.FAILURE, 1)


def breaker(*, offset_ms=0, is_alone=False):
    return Breaker(BANK, random.Random(1), StoreContact(offset_ms, is_alone))


def fail(guard, times, *, now_ms=0):
    """End so many calls in failure; whether the process's own circuit changed."""
    return [guard.ended(guard.ask(now_ms), FAILED, now_ms=now_ms) for _ in range(times)]


def sync(circuit, now_ms, *, accepted=True):
    """Play a sync; the state that was proposed, if one was."""
    proposal = circuit.propose(now_ms, 0.0)
    if proposal is None:
        return None
    circuit.answered(accepted=accepted)
    return read_circuit(proposal.value)


def opened():
    circuit = SharedCircuit("bank", POLICY)
    circuit.learn(circuit_text(Open(1, 1, 1_000)), 0)
    return circuit


def test_process_that_suspects_alone_opens_its_own_circuit_only():
    guard = breaker()

    assert fail(guard, 2) == [False, True]
    assert isinstance(guard.own.state, Open)
    assert guard.shared.state == Closed()
    assert isinstance(guard.ask(0), CircuitRefusal)


def test_fleet_that_agrees_proposes_an_open_circuit():
    guard = breaker()
    fail(guard, 2)

    guard.weigh([CallTally(9, 9, in_a_row=9)], now_ms=0)

    assert isinstance(sync(guard.shared, 0), Open)
    assert isinstance(guard.shared.state, Open)


def test_fleet_that_disagrees_proposes_nothing():
    guard = breaker()
    fail(guard, 2)

    guard.weigh([CallTally(9)], now_ms=0)

    assert sync(guard.shared, 0) is None


def test_suspicion_is_dropped_when_the_circuit_changes_before_the_sync():
    guard = breaker()
    fail(guard, 2)
    guard.weigh([CallTally(9, 9, in_a_row=9)], now_ms=0)

    guard.shared.learn(circuit_text(Closed(4)), 0)

    assert sync(guard.shared, 0) is None
    assert guard.shared.state == Closed(4)


def test_own_evidence_is_forgotten_when_the_fleet_decided():
    guard = breaker()
    fail(guard, 2)

    guard.follow()

    assert isinstance(guard.own.state, Closed)
    assert guard.own.tally(0) == CallTally()


def test_open_circuit_of_the_fleet_does_not_hold_while_the_store_is_away():
    reached, alone = breaker(), breaker(is_alone=True)
    for guard in (reached, alone):
        guard.shared.learn(circuit_text(Open(1, 1, 1_000)), 0)

    assert isinstance(reached.ask(0), CircuitRefusal)
    assert isinstance(alone.ask(0), CallPermit)


def test_cooldown_ends_by_the_stores_clock():
    guard = breaker(offset_ms=900)
    guard.shared.learn(circuit_text(Open(1, 1, 1_000)), 900)

    assert guard.ask(0) == CircuitRefusal(100)


def test_call_of_an_older_generation_is_no_evidence():
    guard = breaker()
    permits = [guard.ask(0) for _ in range(2)]
    guard.shared.learn(circuit_text(Closed(2)), 0)

    assert [guard.ended(one, FAILED, now_ms=0) for one in permits] == [False, False]
    assert guard.own.tally(0) == CallTally()


def test_refused_request_has_a_permit_that_no_circuit_counts():
    guard = breaker()
    fail(guard, 2)
    request = CallRequest(Priority.NORMAL, is_extra=False, now_ms=0)

    assert guard.admit(request) > 0
    before = guard.own.state
    guard.give_back(request)
    guard.ended(request.permit, FAILED, now_ms=0)

    assert guard.own.state == before


def test_probe_of_the_fleet_closes_its_circuit_with_the_next_sync():
    guard = breaker()
    guard.shared.learn(circuit_text(Open(1, 1, 1_000)), 0)
    assert guard.ask(1_000) == CircuitRefusal(300)
    assert isinstance(sync(guard.shared, 1_000), HalfOpen)

    probe = guard.ask(1_100)
    assert probe.is_probe
    guard.ended(probe, OK, now_ms=1_200)

    assert guard.shared.is_urgent
    assert sync(guard.shared, 1_200) == Closed(3)
    assert guard.is_calm


def test_probe_is_not_leased_twice_for_two_calls():
    circuit = opened()
    circuit.admit(1_000)
    sync(circuit, 1_000)

    answers = [circuit.admit(1_001) for _ in range(2)]

    assert answers == [Permit(2, probe=1), CircuitRefusal(300)]


def test_result_of_a_probe_outlives_a_sync_that_failed():
    circuit = opened()
    circuit.admit(1_000)
    sync(circuit, 1_000)
    circuit.ended(circuit.admit(1_001), CallOutcome.FAILURE, None)

    lost = sync(circuit, 1_100, accepted=False)

    assert isinstance(lost, Open)
    assert isinstance(circuit.state, HalfOpen)
    assert sync(circuit, 1_100) == lost


def test_permit_of_a_probe_that_is_not_made_serves_the_next_call():
    circuit = opened()
    circuit.admit(1_000)
    sync(circuit, 1_000)
    permit = circuit.admit(1_001)

    circuit.give_back(permit, 1_001)

    assert circuit.admit(1_002) == permit
    circuit.give_back(permit, 1_002)
    assert isinstance(circuit.admit(1_202), CircuitRefusal)


def test_override_holds_over_the_state_until_its_end():
    circuit = opened()
    circuit.by_hand = OverrideCell("closed", "ann", "game day", 500)

    assert circuit.admit(499) == Permit(1)
    assert circuit.admit(500) == CircuitRefusal(500)


def test_state_of_an_older_generation_does_not_replace_a_later_one():
    circuit = opened()

    assert circuit.learn(circuit_text(Closed(0)), 0)

    assert circuit.state == Open(1, 1, 1_000)
    assert circuit.has_news


def test_unreadable_state_is_reported_once_and_replaced():
    circuit = opened()

    assert not circuit.learn(b"{", 0)
    assert circuit.learn(b"{", 0)

    assert sync(circuit, 0) == Open(1, 1, 1_000)


def test_instant_of_a_wrong_clock_is_clamped_to_the_longest_wait():
    circuit = SharedCircuit("bank", POLICY)

    circuit.learn(circuit_text(Open(1, 1, 10**12)), 0)

    assert circuit.admit(0) == CircuitRefusal(POLICY.max_retry_after_ms)
