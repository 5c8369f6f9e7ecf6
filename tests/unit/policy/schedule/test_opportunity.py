"""Opportunistic work: none under load, all of it in the end, a share that finds out."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from shifter.errors import ConfigError
from shifter.policy.schedule.opportunity import (
    ALL_MILLI,
    LoadSigns,
    OpportunityPolicy,
    OpportunityState,
    must_start_before,
    observe,
    room,
)

POLICY = OpportunityPolicy()
IDLE, BUSY, STRAINED = LoadSigns(), LoadSigns(is_busy=True), LoadSigns(is_strained=True)


def after(*signs, state=None, every_ms=200, start_ms=0):
    state = OpportunityState() if state is None else state
    for number, sign in enumerate(signs):
        state = observe(POLICY, state, sign, now_ms=start_ms + number * every_ms)
    return state


def test_an_idle_fleet_gives_a_slot_at_once_and_more_with_each_interval():
    assert after(IDLE).share_milli == 100
    assert after(*[IDLE] * 5).share_milli == 500
    assert after(*[IDLE] * 50).share_milli == ALL_MILLI


def test_looking_more_often_does_not_make_it_grow_faster():
    assert after(*[IDLE] * 21, every_ms=10).share_milli == 200


def test_load_takes_all_of_it_at_once():
    state = after(*[IDLE] * 10, BUSY)

    assert room(POLICY, state, slots=100, free=100, running=0) == 0


def test_after_load_the_fleet_must_have_been_idle_for_a_while():
    busy = after(*[IDLE] * 10, BUSY)

    early = observe(POLICY, busy, IDLE, now_ms=2_000 + 999)
    later = observe(POLICY, early, IDLE, now_ms=2_000 + 1_000)

    assert early.share_milli == 0
    assert later.share_milli == 100


def test_strain_halves_it_and_never_ends_it():
    full = after(*[IDLE] * 10)

    half = after(STRAINED, state=full, start_ms=2_000)
    least = after(*[STRAINED] * 40, state=full, start_ms=2_000)

    assert half.share_milli == 500
    assert room(POLICY, least, slots=100, free=100, running=0) == 1


def test_some_slots_stay_free_for_what_comes_next():
    state = OpportunityState(ALL_MILLI)

    assert room(POLICY, state, slots=100, free=100, running=0) == 75
    assert room(POLICY, state, slots=100, free=30, running=70) == 5
    assert room(POLICY, state, slots=100, free=25, running=0) == 0


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_few_slots_are_enough(slots):
    assert room(POLICY, OpportunityState(1), slots=slots, free=slots, running=0) == 1


def test_a_deadline_is_imminent_when_no_attempt_fits_before_it_with_its_margin():
    assert must_start_before(POLICY, now_ms=1_000, timeout_ms=60_000) == 91_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval_ms": 0},
        {"step_milli": 0},
        {"keep_ratio": 0},
        {"keep_ratio": 1.5},
        {"most_ratio": 0.0},
        {"queued_ms": -1},
        {"pause_ms": -1},
        {"margin_ms": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        OpportunityPolicy(**wrong)


LOOKS = st.lists(
    st.tuples(st.integers(0, 3_000), st.booleans(), st.booleans()), max_size=60
)
SLOTS = st.integers(1, 200)


@given(LOOKS, SLOTS, st.data())
def test_nothing_starts_while_there_is_load_or_just_was(looks, slots, data):
    state, now_ms, busy_ms = OpportunityState(), 0, None
    for passed_ms, is_busy, is_strained in looks:
        now_ms += passed_ms
        before = state
        state = observe(POLICY, state, LoadSigns(is_busy, is_strained), now_ms=now_ms)
        busy_ms = now_ms if is_busy else busy_ms
        free = data.draw(st.integers(0, slots))
        running = data.draw(st.integers(0, slots - free))
        found = room(POLICY, state, slots=slots, free=free, running=running)

        assert 0 <= state.share_milli <= ALL_MILLI
        assert 0 <= found <= free
        assert running + found <= max(running, 1, int(slots * 0.75))
        if busy_ms is not None and now_ms < busy_ms + POLICY.pause_ms:
            assert found == 0
        grown = state.share_milli - before.share_milli
        assert grown <= POLICY.step_milli


@given(LOOKS, SLOTS)
def test_an_idle_fleet_comes_to_all_of_its_share_within_seconds(looks, slots):
    state, now_ms = OpportunityState(), 0
    for passed_ms, is_busy, is_strained in looks:
        now_ms += passed_ms
        state = observe(POLICY, state, LoadSigns(is_busy, is_strained), now_ms=now_ms)

    for _ in range(20):
        now_ms += 200
        state = observe(POLICY, state, IDLE, now_ms=now_ms)

    assert state.share_milli == ALL_MILLI
    assert room(POLICY, state, slots=slots, free=slots, running=0) >= 1
