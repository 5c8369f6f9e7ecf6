from __future__ import annotations

import pytest

from shifter.errors import ConfigError
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.circuit.policy import (
    CircuitPolicy,
    check_lease,
    cooldown_ms,
)
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    Closed,
    HalfOpen,
    Open,
    Permit,
    Probe,
    admit,
    settle,
    trip,
)

POLICY = CircuitPolicy(
    cooldown_ms=1_000, max_cooldown_ms=8_000, probes=2, probe_lease_ms=500
)
NOW = 100_000
HALF = HalfOpen(8, 1, (Probe(1, NOW + 500),), started=1)


def end(state, permit, outcome, *, policy=POLICY, now_ms=NOW, retry_after_ms=None):
    return settle(
        policy,
        state,
        permit,
        outcome,
        now_ms=now_ms,
        u=0.0,
        retry_after_ms=retry_after_ms,
    )


def test_a_closed_circuit_lets_every_call_pass_and_does_not_change():
    state = Closed(7)

    after, answer = admit(POLICY, state, now_ms=NOW)

    assert after is state
    assert answer == Permit(7)


def test_an_open_circuit_refuses_until_its_cooldown_is_over():
    state = Open(7, 1, NOW)

    assert admit(POLICY, state, now_ms=NOW - 1) == (state, CircuitRefusal(1))
    after, answer = admit(POLICY, state, now_ms=NOW)
    assert after == HALF
    assert answer == Permit(8, probe=1)


def test_no_more_probes_at_once_than_allowed_and_the_refusal_has_a_duration():
    two, second = admit(POLICY, HALF, now_ms=NOW + 100)

    assert second == Permit(8, probe=2)
    assert admit(POLICY, two, now_ms=NOW + 200) == (two, CircuitRefusal(300))


def test_the_place_of_a_prober_that_vanished_is_free_when_its_lease_ends():
    two, _ = admit(POLICY, HALF, now_ms=NOW + 100)

    after, answer = admit(POLICY, two, now_ms=NOW + 500)

    assert answer == Permit(8, probe=3)
    assert [probe.number for probe in after.probes] == [2, 3]


def test_enough_successes_close_it_in_a_new_generation():
    policy = CircuitPolicy(probe_successes=2, probes=2)
    state, first = admit(policy, Open(7, 3, NOW), now_ms=NOW)
    state, second = admit(policy, state, now_ms=NOW)

    state = end(state, first, CallOutcome.SUCCESS, policy=policy)
    assert isinstance(state, HalfOpen)
    assert end(state, second, CallOutcome.SUCCESS, policy=policy) == Closed(9)


@pytest.mark.parametrize("outcome", [CallOutcome.FAILURE, CallOutcome.THROTTLED])
def test_a_probe_that_fails_or_is_throttled_opens_it_again_for_twice_as_long(outcome):
    assert end(HALF, Permit(8, 1), outcome) == Open(9, 2, NOW + 1_000)


def test_a_probe_without_an_outcome_gives_its_place_back():
    after = end(HALF, Permit(8, 1), CallOutcome.IGNORED)

    assert after == HalfOpen(8, 1, (), started=1)


@pytest.mark.parametrize("outcome", list(CallOutcome))
@pytest.mark.parametrize("permit", [Permit(7), Permit(7, 1), Permit(8), Permit(8, 2)])
def test_a_late_result_is_dropped(permit, outcome):
    assert end(HALF, permit, outcome) is HALF


@pytest.mark.parametrize("outcome", list(CallOutcome))
def test_the_result_of_a_probe_past_its_lease_is_dropped(outcome):
    assert end(HALF, Permit(8, 1), outcome, now_ms=NOW + 500) is HALF


@pytest.mark.parametrize("state", [Closed(8), Open(8, 1, NOW + 9)])
def test_calls_that_are_no_probes_change_nothing(state):
    assert end(state, Permit(8), CallOutcome.FAILURE) is state


def test_evidence_opens_a_closed_circuit_and_prolongs_no_open_one():
    opened = trip(POLICY, Closed(7), now_ms=NOW, u=0.0)

    assert opened == Open(8, 1, NOW + 500)
    assert trip(POLICY, opened, now_ms=NOW + 400, u=0.0) is opened


@pytest.mark.parametrize(
    ("asked_ms", "waits_ms"), [(3_000, 3_000), (0, 1), (-5, 1), (10**12, 300_000)]
)
def test_the_dependency_sets_how_long_it_is_not_called(asked_ms, waits_ms):
    state = trip(POLICY, Closed(), now_ms=NOW, u=0.9, retry_after_ms=asked_ms)

    assert state == Open(1, 1, NOW + waits_ms)
    assert end(
        HALF, Permit(8, 1), CallOutcome.THROTTLED, retry_after_ms=asked_ms
    ) == Open(9, 2, NOW + waits_ms)


def test_cooldowns_double_up_to_the_cap_with_half_of_each_certain():
    bounds = [
        (cooldown_ms(POLICY, openings=n, u=0.0), cooldown_ms(POLICY, openings=n, u=1.0))
        for n in (1, 2, 3, 4, 5, 10**9)
    ]

    assert bounds == [
        (500, 1_000),
        (1_000, 2_000),
        (2_000, 4_000),
        (4_000, 8_000),
        (4_000, 8_000),
        (4_000, 8_000),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cooldown_ms", 0),
        ("max_cooldown_ms", 4_999),
        ("max_retry_after_ms", 0),
        ("probes", 0),
        ("probes", True),
        ("probes", 1.5),
        ("probe_successes", -1),
        ("probe_lease_ms", 0),
    ],
)
def test_a_contradiction_is_refused_with_its_field(field, value):
    with pytest.raises(ConfigError) as caught:
        CircuitPolicy(**{field: value})

    assert caught.value.field == field


def test_a_lease_shorter_than_the_calls_is_refused():
    check_lease(POLICY, timeout_ms=500)
    with pytest.raises(ConfigError, match="probe_lease_ms") as caught:
        check_lease(POLICY, timeout_ms=501)

    assert caught.value.value == 500


def test_an_open_circuit_keeps_the_instant_of_its_first_opening():
    opened = trip(POLICY, Closed(1), now_ms=NOW, u=0.0)
    half, permit = admit(POLICY, opened, now_ms=opened.until_ms)
    again = end(half, permit, CallOutcome.FAILURE, now_ms=opened.until_ms + 100)
    later, permit = admit(POLICY, again, now_ms=again.until_ms)
    closed = end(later, permit, CallOutcome.SUCCESS, now_ms=again.until_ms + 1)

    assert [s.since_ms for s in (opened, half, again, later)] == [NOW] * 4
    assert closed.since_ms == again.until_ms + 1
    assert opened == Open(2, 1, opened.until_ms)
