from __future__ import annotations

import pytest

from shifter.policy.delivery.delay import (
    MAX_DELAY_MS,
    MAX_HOPS,
    TIERS_S,
    hops,
    next_hop,
    ready_at,
)


def test_tiers_grow_by_four_from_one_second():
    assert tuple(4**power for power in range(8)) == TIERS_S


@pytest.mark.parametrize("tier_s", TIERS_S)
def test_a_tier_is_taken_as_soon_as_it_fits_and_not_earlier(tier_s):
    shorter = TIERS_S[TIERS_S.index(tier_s) - 1] if tier_s > 1 else None

    assert next_hop(tier_s * 1_000) == tier_s
    assert next_hop(tier_s * 1_000 - 1) == shorter


def test_the_longest_tier_serves_every_longer_wait():
    assert next_hop(MAX_DELAY_MS) == 16_384


@pytest.mark.parametrize("remaining_ms", [999, 1, 0, -1, -(10**15)])
def test_the_last_piece_is_held_in_memory(remaining_ms):
    assert next_hop(remaining_ms) is None


def test_a_record_waits_its_tier_from_when_the_log_took_it():
    assert ready_at(10_000, 4, due_ms=99_000) == 14_000


def test_a_slow_append_does_not_make_the_record_late():
    assert ready_at(17_500, 16, due_ms=20_000) == 20_000


def test_a_forged_due_time_holds_up_nothing_beyond_its_tier():
    year_9999 = 253_370_764_800_000

    assert ready_at(10_000, 1, due_ms=year_9999) == 11_000
    assert ready_at(10_000, 1, due_ms=-5) == -5


def test_ninety_seconds_and_a_half():
    assert hops(90_500) == [64, 16, 4, 4, 1, 1]


def test_less_than_a_second_needs_no_hop():
    assert hops(0) == hops(999) == []


def test_the_longest_path_has_the_stated_number_of_hops():
    longest = 157 * 16_384 + 16_383

    assert longest * 1_000 <= MAX_DELAY_MS
    assert len(hops(longest * 1_000)) == MAX_HOPS


def test_the_longest_delay_has_a_path():
    assert sum(hops(MAX_DELAY_MS)) * 1_000 == MAX_DELAY_MS


def test_a_day_takes_few_hops():
    assert len(hops(86_400_000)) <= 5 + 21


@pytest.mark.parametrize("delay_ms", [-1, MAX_DELAY_MS + 1])
def test_a_path_outside_the_range_is_refused(delay_ms):
    with pytest.raises(ValueError, match=f"delay is {delay_ms} ms"):
        hops(delay_ms)
