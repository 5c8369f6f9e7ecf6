"""What a call that was cut says, whatever was usual before."""

from __future__ import annotations

import itertools

from hypothesis import given, strategies as st

from shifter.policy.protection.circuit.evidence import (
    CallEnd,
    CallOutcome,
    EvidencePolicy,
)
from shifter.policy.protection.circuit.local import (
    USUAL_CEILING_MS,
    USUAL_FLOOR_MS,
    LocalCircuit,
    UsualDuration,
)
from shifter.policy.protection.circuit.states import Closed, Open
from shifter.policy.protection.dependency import Dependency

IN_A_ROW = 3
BANK = Dependency("bank", evidence=EvidencePolicy(consecutive_failures=IN_A_ROW))
durations = st.integers(0, 10**7)
histories = st.lists(durations, max_size=60)
given_ms = st.none() | durations


def learnt(history):
    usual = UsualDuration()
    for took_ms in history:
        usual.learn(took_ms)
    return usual


def cut(took_ms, given_ms=None):
    return CallEnd(CallOutcome.IGNORED, took_ms, was_cut=True, given_ms=given_ms)


def cut_in_a_row(history, end):
    """The state of a circuit after some successes, then some calls that were cut."""
    guard, moments = LocalCircuit(BANK), itertools.count()
    ends = [CallEnd(CallOutcome.SUCCESS, took_ms) for took_ms in history]
    for one in [*ends, *[end] * IN_A_ROW]:
        now_ms = next(moments)
        permit = guard.admit(now_ms)
        guard.record(permit, guard.judged(one), now_ms=now_ms, u=0.0)
    return guard.state


@given(histories)
def test_the_limit_of_what_is_usual_is_bounded_whatever_was_seen(history):
    limit_ms = learnt(history).limit_ms

    assert USUAL_FLOOR_MS <= limit_ms <= USUAL_CEILING_MS
    if history:
        assert min(*history, USUAL_CEILING_MS) <= limit_ms
        assert limit_ms <= max(USUAL_FLOOR_MS, 5 * max(history))


@given(histories, durations)
def test_the_limit_follows_what_calls_take_now(history, took_ms):
    usual = learnt(history + [took_ms] * 200)

    at_least_ms = min(max(USUAL_FLOOR_MS, took_ms), USUAL_CEILING_MS)
    assert at_least_ms * 0.99 <= usual.limit_ms <= at_least_ms * 1.05 + 50


@given(histories, durations, given_ms)
def test_calls_cut_later_than_usual_or_than_they_were_given_open_the_circuit(
    history, more_ms, given_ms
):
    limit_ms = learnt(history).limit_ms
    took_ms = (
        int(min(limit_ms, limit_ms if given_ms is None else given_ms)) + 1 + more_ms
    )

    assert isinstance(cut_in_a_row(history, cut(took_ms, given_ms)), Open)


@given(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_calls_cut_sooner_than_any_that_was_answered_open_nothing(history, share):
    soon_ms = int(min(*history, USUAL_CEILING_MS) * share)

    assert cut_in_a_row(history, cut(soon_ms)) == Closed()


@given(st.integers(0, USUAL_FLOOR_MS - 1))
def test_calls_cut_at_once_open_nothing_where_nothing_is_known(took_ms):
    assert cut_in_a_row([], cut(took_ms)) == Closed()


def test_what_is_slow_by_the_policy_is_long_whatever_is_usual():
    evidence = EvidencePolicy(consecutive_failures=1, slow_call_ms=100)
    guard = LocalCircuit(Dependency("bank", evidence=evidence))
    guard.judged(CallEnd(CallOutcome.SUCCESS, 90_000))

    assert guard.judged(cut(100)).outcome is CallOutcome.FAILURE
    assert guard.judged(cut(99)).outcome is CallOutcome.IGNORED
