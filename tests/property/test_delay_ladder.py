"""A record's way over the ladder, with appends and moves that take any time."""

from __future__ import annotations

from functools import cache

from hypothesis import given, strategies as st

from shifter.policy.delivery.delay import (
    MAX_DELAY_MS,
    MAX_HOPS,
    TIERS_S,
    hops,
    next_hop,
    ready_at,
)

delays = (
    st.integers(0, MAX_DELAY_MS)
    | st.integers(0, 300_000)
    | st.sampled_from(TIERS_S).flatmap(
        lambda tier_s: st.integers(tier_s * 1_000 - 2, tier_s * 1_000 + 2)
    )
)
lags = st.sampled_from([0, 0, 0, 1, 5, 700, 5_000, 400_000, 10**8])


@given(delays)
def test_a_path_never_overshoots_and_leaves_less_than_a_second(delay_ms):
    path = hops(delay_ms)

    assert 0 <= delay_ms - 1_000 * sum(path) < 1_000
    assert len(path) <= MAX_HOPS
    assert path == sorted(path, reverse=True)
    assert all(path.count(tier_s) <= 3 for tier_s in TIERS_S[:-1])


@cache
def fewest_hops(seconds: int) -> int:
    """By trying every first hop."""
    if seconds == 0:
        return 0
    return 1 + min(fewest_hops(seconds - t) for t in TIERS_S if t <= seconds)


@given(st.integers(0, 300))
def test_a_path_has_the_fewest_hops_possible(seconds):
    assert len(hops(seconds * 1_000)) == fewest_hops(seconds)


@given(delays, st.data())
def test_no_record_is_early_and_only_the_last_lags_make_it_late(delay_ms, data):
    """Time lost on the way is made up for by shorter hops later."""
    now, due_ms, taken, moved_late_ms = 0, delay_ms, [], 0
    while (tier_s := next_hop(due_ms - now)) is not None:
        taken.append(tier_s)
        appended_ms = now + data.draw(lags, label="append took")
        moved_late_ms = data.draw(lags, label="move was late by")
        now = ready_at(appended_ms, tier_s, due_ms) + moved_late_ms
    last_append_ms = data.draw(lags, label="append to the lane took")
    start_ms = max(now + last_append_ms, due_ms)  # held in memory for the rest

    assert due_ms <= start_ms <= due_ms + moved_late_ms + last_append_ms
    assert len(taken) <= MAX_HOPS
    assert taken == sorted(taken, reverse=True)


@given(
    st.sampled_from(TIERS_S),
    st.lists(
        st.tuples(
            st.integers(0, 5_000), st.integers(0, 100_000), st.integers(0, 10**7)
        ),
        max_size=20,
    ),
)
def test_looking_only_at_the_head_holds_no_record_up_beyond_the_tier(tier_s, records):
    """A tier is first in, first out even when its records were long under way."""
    appended_ms = left_ms = 0
    for gap_ms, under_way_ms, extra_ms in records:
        appended_ms += gap_ms
        due_ms = appended_ms - under_way_ms + tier_s * 1_000 + extra_ms
        left_ms = max(left_ms, ready_at(appended_ms, tier_s, due_ms))

        assert left_ms <= appended_ms + tier_s * 1_000


@given(st.integers(-(10**18), 10**18), st.integers(-(10**18), 10**18))
def test_any_due_time_is_taken_without_complaint(remaining_ms, due_ms):
    tier_s = next_hop(remaining_ms)

    assert tier_s is None or tier_s * 1_000 <= remaining_ms
    assert ready_at(0, 1, due_ms) <= 1_000
