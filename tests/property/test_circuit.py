"""A circuit under any sequence of calls: it protects, and it always comes back."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from shifter.policy.protection.circuit.evidence import (
    CallOutcome,
    CallTally,
    EvidencePolicy,
    fleet_suspects,
    suspects,
)
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
    Closed,
    HalfOpen,
    Open,
    Permit,
    admit,
    settle,
    trip,
)
from shifter.policy.sliding_window import SlidingWindow, WindowPolicy

policies = st.builds(
    CircuitPolicy,
    cooldown_ms=st.integers(1, 5_000),
    max_cooldown_ms=st.integers(5_000, 60_000),
    probes=st.integers(1, 4),
    probe_successes=st.integers(1, 4),
    probe_lease_ms=st.integers(1, 2_000),
)
draws = st.floats(0, 1, exclude_max=True)
steps = st.lists(
    st.tuples(
        st.sampled_from(["call", "end", "trip"]),
        st.sampled_from(CallOutcome),
        st.integers(0, 3_000),
        st.integers(0, 50),
        draws,
        st.none() | st.integers(-10, 10**6),
    ),
    max_size=80,
)


def played(policy, steps):
    """Every state with what led to it."""
    state, now_ms, permits = Closed(), 0, []
    for kind, outcome, gap_ms, pick, u, retry_after_ms in steps:
        now_ms += gap_ms
        before, permit, answer = state, None, None
        if kind == "call":
            state, answer = admit(policy, state, now_ms=now_ms)
            if isinstance(answer, Permit):
                permits.append(answer)
        elif kind == "trip":
            state = trip(policy, state, now_ms=now_ms, u=u)
        elif permits:
            permit = permits[pick % len(permits)]
            state = settle(
                policy,
                state,
                permit,
                outcome,
                now_ms=now_ms,
                u=u,
                retry_after_ms=retry_after_ms,
            )
        yield before, state, answer, permit, outcome, now_ms


@given(policies, steps)
@settings(max_examples=300)
def test_only_the_allowed_transitions_happen_each_in_a_generation_of_its_own(
    policy, steps
):
    allowed = {
        (Closed, Open),
        (Open, HalfOpen),
        (HalfOpen, Open),
        (HalfOpen, Closed),
    }
    for before, after, _, permit, outcome, _ in played(policy, steps):
        if type(before) is type(after):
            assert after.generation == before.generation
            continue
        assert (type(before), type(after)) in allowed
        assert after.generation == before.generation + 1
        if isinstance(after, Closed):
            assert outcome is CallOutcome.SUCCESS
            assert permit is not None
            assert permit.generation == before.generation


@given(policies, steps)
@settings(max_examples=300)
def test_an_open_circuit_lets_nothing_pass_and_probes_are_bounded(policy, steps):
    for before, after, answer, _, _, now_ms in played(policy, steps):
        if isinstance(after, HalfOpen):
            alive = [probe for probe in after.probes if probe.until_ms > now_ms]
            assert len(alive) <= policy.probes
        if isinstance(before, Open) and now_ms < before.until_ms:
            assert not isinstance(answer, Permit)
        if isinstance(answer, CircuitRefusal):
            assert answer.retry_in_ms > 0
            longest = max(policy.max_cooldown_ms, policy.max_retry_after_ms)
            assert answer.retry_in_ms <= max(longest, policy.probe_lease_ms)


@given(policies, steps)
@settings(max_examples=300)
def test_the_result_of_an_older_generation_changes_nothing(policy, steps):
    for before, after, _, permit, _, _ in played(policy, steps):
        if permit is not None and permit.generation != before.generation:
            assert after is before


@given(policies, steps, draws)
@settings(max_examples=300)
def test_from_every_state_a_healthy_dependency_is_called_again(policy, steps, u):
    state, now_ms = Closed(), 0
    for _, after, _, _, _, at_ms in played(policy, steps):
        state, now_ms = after, at_ms
    for _ in range(2 * policy.probe_successes + policy.probes + 2):
        if isinstance(state, Closed):
            return
        state, answer = admit(policy, state, now_ms=now_ms)
        if isinstance(answer, CircuitRefusal):
            now_ms += answer.retry_in_ms
            continue
        state = settle(policy, state, answer, CallOutcome.SUCCESS, now_ms=now_ms, u=u)
    assert isinstance(state, Closed)


tallies = st.integers(0, 500).flatmap(
    lambda calls: st.builds(
        CallTally,
        st.just(calls),
        st.integers(0, calls),
        st.integers(0, calls),
        st.integers(0, min(calls, 10)),
    )
)
fleets = st.lists(tallies, min_size=1, max_size=9)
evidence = st.builds(EvidencePolicy, slow_call_ms=st.none() | st.just(100))


@given(evidence, fleets.flatmap(lambda fleet: st.tuples(*[st.permutations(fleet)] * 2)))
def test_all_processes_come_to_the_same_answer_about_the_fleet(policy, views):
    one, other = views

    assert fleet_suspects(policy, one) == fleet_suspects(policy, other)


@given(evidence, fleets)
def test_one_suspecting_process_never_opens_for_others(policy, fleet):
    suspecting = [tally for tally in fleet if suspects(policy, tally)]
    answer = fleet_suspects(policy, fleet)

    if not suspecting or (len(suspecting) == 1 and len(fleet) > 1):
        assert not answer
    if len(suspecting) == len(fleet):
        assert answer


@given(evidence, fleets.filter(lambda fleet: len(fleet) > 1))
def test_a_process_that_has_seen_nothing_changes_no_answer(policy, fleet):
    idle = CallTally()

    assert fleet_suspects(policy, [*fleet, idle]) == fleet_suspects(policy, fleet)


adds = st.lists(
    st.tuples(st.integers(0, 1_500), st.integers(-3, 9)), min_size=1, max_size=60
)


@given(st.integers(1, 12), st.integers(1, 300), adds)
def test_a_window_is_the_sum_of_its_buckets(buckets, bucket_ms, adds):
    policy = WindowPolicy(length_ms=buckets * bucket_ms, buckets=buckets)
    window, now_ms, seen = SlidingWindow(policy, 2), 0, []
    for gap_ms, amount in adds:
        now_ms += gap_ms
        window.add(now_ms, 1, amount)
        seen.append((now_ms // bucket_ms, amount))
        oldest = now_ms // bucket_ms - buckets
        expected = sum(amount for bucket, amount in seen if bucket > oldest)
        assert list(window.totals(now_ms)) == [0, expected]
    assert list(window.totals(now_ms + policy.length_ms)) == [0, 0]


def test_a_clock_that_goes_back_is_taken_to_stand_still():
    window = SlidingWindow(WindowPolicy(), 1)
    window.add(50_000, 0)
    window.add(10_000, 0)

    assert list(window.totals(5_000)) == [2]
