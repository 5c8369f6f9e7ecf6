"""What holds for the pace of LOW work, whatever waits."""

from __future__ import annotations

import math

from hypothesis import given, settings, strategies as st

from shifter.policy.schedule.pace import PacePolicy, PaceReason, UrgentUse, pace

LEFT = st.lists(st.floats(-100, 100_000), max_size=60).map(sorted)
COST = st.floats(0.001, 100)
USED = st.floats(0, 1_000)


@st.composite
def policies(draw):
    return PacePolicy(patience=draw(st.floats(0.05, 1)))


@st.composite
def uses(draw):
    return UrgentUse(0.0, recent=draw(USED), mean=draw(USED))


@given(policies(), uses(), LEFT, COST)
def test_a_pace_is_never_below_what_deadlines_need(policy, use, left_s, cost_s):
    found = pace(policy, use, left_s, cost_s=cost_s, at_ms=0)

    assert found.slots >= found.needed >= 0
    assert (found.slots == 0) == (found.reason is PaceReason.IDLE) or left_s
    if found.reason is PaceReason.DEADLINE:
        assert found.slots == math.ceil(found.needed)


@given(policies(), uses(), LEFT, COST, USED)
def test_more_urgent_work_never_quickens_the_pace(policy, use, left_s, cost_s, more):
    busier = use._replace(recent=use.recent + more)

    before = pace(policy, use, left_s, cost_s=cost_s, at_ms=0)
    after = pace(policy, busier, left_s, cost_s=cost_s, at_ms=0)

    assert after.slots <= before.slots


@given(policies(), uses(), LEFT, COST)
def test_one_more_of_the_same_never_slows_the_pace(policy, use, left_s, cost_s):
    if not left_s:
        return
    more = sorted([*left_s, left_s[len(left_s) // 2]])

    before = pace(policy, use, left_s, cost_s=cost_s, at_ms=0)
    after = pace(policy, use, more, cost_s=cost_s, at_ms=0)

    assert after.needed >= before.needed


@settings(max_examples=60)
@given(
    st.lists(st.floats(60, 3_600), min_size=1, max_size=200).map(sorted),
    st.floats(0.1, 10),
    USED,
)
def test_who_follows_the_pace_starts_each_job_before_its_deadline(left_s, cost_s, used):
    """Second by second, with more urgent work that uses more than usual throughout."""
    policy, use = PacePolicy(), UrgentUse(0.0, recent=used + 100, mean=used)
    running: list[float] = []
    waiting, now = list(left_s), 0.0
    while waiting:
        running = [end for end in running if end > now]
        left = [at - now for at in waiting]
        slots = pace(policy, use, left, cost_s=cost_s, at_ms=0).slots
        for _ in range(max(0, slots - len(running))):
            if waiting:
                assert now < waiting.pop(0)
                running.append(now + cost_s)
        now += 0.5
