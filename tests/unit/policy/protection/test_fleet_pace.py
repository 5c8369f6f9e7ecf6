"""A store makes no more calls for a large fleet than one core carries."""

from __future__ import annotations

import pytest

from shifter.policy.protection.fleet_pace import (
    PRESENCE_PER_S,
    SYNCS_PER_S,
    keep_ms,
    look_every_s,
    news_spread_s,
    presence_every_s,
    presence_keep_ms,
    sync_every_s,
)

FLEETS = [1, 10, 100, 1_000, 10_000, 20_000]


def test_a_fleet_of_up_to_a_thousand_syncs_every_200_ms():
    assert {sync_every_s(n) for n in (0, 1, 999, 1_000)} == {0.2}
    assert sync_every_s(10_000) == 2.0
    assert presence_every_s(2_500) == 1.0
    assert presence_every_s(10_000) == 4.0


@pytest.mark.parametrize("processes", FLEETS)
def test_calls_of_a_whole_fleet_have_a_bound(processes):
    assert processes / sync_every_s(processes) <= SYNCS_PER_S * (1 + 1e-9)
    assert processes / presence_every_s(processes) <= PRESENCE_PER_S * (1 + 1e-9)
    # A look costs a few microseconds for each process.
    assert processes / look_every_s(processes) <= 10_000 * (1 + 1e-9)


@pytest.mark.parametrize("processes", FLEETS)
def test_a_report_is_kept_for_ten_of_them(processes):
    assert keep_ms(processes) >= 10_000 * sync_every_s(processes) - 1
    assert presence_keep_ms(processes) >= 10_000 * presence_every_s(processes) - 1


def test_the_processes_of_a_large_fleet_do_not_read_a_change_all_at_once():
    assert [news_spread_s(n) for n in (1, 1_000, 6_000)] == [0.0, 0.0, 0.5]
