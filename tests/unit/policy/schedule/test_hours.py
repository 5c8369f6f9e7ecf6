"""Hours: windows of jobs and lanes together, and what somebody set over them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from shifter import Window
from shifter.model.time import EpochMs
from shifter.policy.schedule.hours import (
    HoursOverride,
    ever_meet,
    is_open,
    joint_opening_ms,
    opening_ms,
)

NIGHT = Window("22:00-06:00").weekly
LATE = Window("23:00-01:00").weekly
NOON = Window("11:00-13:00").weekly
BERLIN = Window("02:00-03:00", tz="Europe/Berlin").weekly
HOUR = 3_600_000


def at(hour, minute=0, day=1):
    moment = datetime(2026, 6, day, hour, minute, tzinfo=UTC)
    return EpochMs(round(moment.timestamp() * 1_000))


def test_a_job_starts_when_its_own_window_and_its_lanes_are_open():
    assert opening_ms(([NIGHT], [LATE]), (), at(12)) == at(23)
    assert opening_ms(([NIGHT], [LATE]), (), at(23, 30)) == at(23, 30)
    assert opening_ms(([NIGHT], [LATE]), (), at(1, day=2)) == at(23, day=2)


def test_without_windows_it_is_always_open():
    assert opening_ms((), (), at(12)) == at(12)


def test_opened_by_hand_windows_do_not_count_until_it_ends():
    opened = HoursOverride(is_open=True, until_ms=at(14))

    assert opening_ms(([NIGHT],), [opened], at(12)) == at(12)
    assert opening_ms(([NIGHT],), [opened], at(14)) == at(22)


def test_closed_by_hand_it_opens_at_the_end_if_a_window_is_open_then():
    closed = HoursOverride(is_open=False, until_ms=at(23))

    assert opening_ms(([NIGHT],), [closed], at(22)) == at(23)
    assert opening_ms((), [closed], at(22)) == at(23)
    assert opening_ms(([LATE],), [closed._replace(until_ms=at(2, day=2))], at(22)) == (
        at(23, day=2)
    )


@pytest.mark.parametrize("turned", [False, True])
def test_an_override_that_closes_wins_over_one_that_opens(turned):
    settings = [HoursOverride(False, at(13)), HoursOverride(True, at(15))]
    settings = settings[::-1] if turned else settings

    assert opening_ms(([NIGHT],), settings, at(12)) == at(13)
    assert opening_ms(([NIGHT],), settings, at(15)) == at(22)


def test_what_is_over_does_not_count():
    assert opening_ms((), [HoursOverride(False, at(12))], at(12)) == at(12)


def test_hours_that_are_never_open_together_are_found_out():
    assert not ever_meet([NIGHT], [NOON])
    assert ever_meet([NIGHT], [LATE])
    assert ever_meet([NIGHT], [])
    # 02:00 in Berlin is 00:00 or 01:00 UTC.
    assert ever_meet([NIGHT], [BERLIN])
    assert not ever_meet([NOON], [BERLIN])


def test_windows_of_two_zones_meet_where_only_summer_brings_them_together():
    summer = Window("00:00-00:30").weekly

    assert ever_meet([summer], [BERLIN])
    assert joint_opening_ms(([summer], [BERLIN]), at(12)) == at(0, day=2)


HANDS = st.lists(
    st.builds(
        HoursOverride, st.booleans(), st.integers(0, 72).map(lambda h: at(0) + h * HOUR)
    ),
    max_size=4,
)
SETS = st.lists(st.sampled_from([[NIGHT], [LATE], [BERLIN], []]), max_size=3)


@given(HANDS, SETS, st.integers(0, 60 * 72).map(lambda m: EpochMs(at(0) + m * 60_000)))
def test_at_its_opening_a_job_may_start_and_nothing_earlier_was_missed(
    hands, sets, now
):
    opening = opening_ms(sets, hands, now)

    def may_start(when):
        in_force = [hand for hand in hands if hand.until_ms > when]
        if any(not hand.is_open for hand in in_force):
            return False
        return bool(in_force) or all(is_open(own, when) for own in sets)

    assert opening >= now
    assert may_start(opening)
    step = 10 * 60_000
    earlier = range(now, min(opening, now + 72 * HOUR), step)
    assert not any(may_start(EpochMs(when)) for when in earlier)
