"""Windows by the wall clock, around the nights in which it is moved."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from shifter.errors import ConfigError
from shifter.jobs.schedule import Window, read_windows
from shifter.model.time import EpochMs
from shifter.policy.schedule.hours import is_open, next_opening_ms

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone=BERLIN, fold: int = 0) -> EpochMs:
    local = datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)
    return EpochMs(round(local.timestamp() * 1_000))


def nights(text="22:00-06:00", days="mon-fri", tz="Europe/Berlin"):
    return (Window(text, tz=tz, days=days).weekly,)


@pytest.mark.parametrize(
    ("now", "is_it"),
    [
        ("2026-06-01T21:59:59", False),  # a Monday
        ("2026-06-01T22:00:00", True),
        ("2026-06-02T05:59:59", True),
        ("2026-06-02T06:00:00", False),
        ("2026-06-06T03:00:00", True),  # Friday's night, on Saturday
        ("2026-06-06T23:00:00", False),
        ("2026-06-01T03:00:00", False),  # Sunday's night
    ],
)
def test_a_night_belongs_to_the_day_it_begins_on(now, is_it):
    assert is_open(nights(), at(now)) is is_it


def test_the_next_opening_is_after_the_weekend():
    assert next_opening_ms(nights(), at("2026-06-06T06:00:00")) == at(
        "2026-06-08T22:00:00"
    )


def test_an_open_window_opens_now_and_no_window_is_always_open():
    now = at("2026-06-01T23:00:00")

    assert next_opening_ms(nights(), now) == now
    assert next_opening_ms((), now) == now


def test_a_window_whose_opening_is_skipped_opens_at_the_jump():
    """On 2026-03-29 Berlin's clock goes from 02:00 to 03:00."""
    windows = nights("02:30-05:00", "daily")

    assert next_opening_ms(windows, at("2026-03-29T01:00:00")) == at(
        "2026-03-29T03:00:00"
    )


def test_a_window_whose_closing_is_skipped_closes_at_the_jump():
    windows, jump = nights("22:00-02:30", "daily"), at("2026-03-29T03:00:00")

    assert is_open(windows, EpochMs(jump - 1))
    assert not is_open(windows, jump)


def test_an_hour_that_comes_twice_opens_a_window_once():
    """On 2026-10-25 Berlin's clock goes from 03:00 back to 02:00."""
    opening = nights("02:30-05:00", "daily")
    closing = nights("22:00-02:30", "daily")
    first = at("2026-10-25T02:30:00", fold=0)
    second = at("2026-10-25T02:30:00", fold=1)

    assert next_opening_ms(opening, at("2026-10-25T01:00:00")) == first
    assert is_open(opening, at("2026-10-25T02:15:00", fold=1))
    assert is_open(closing, EpochMs(second - 1))
    assert not is_open(closing, second)


def test_a_window_that_the_jump_swallows_does_not_open_that_day():
    windows = nights("02:10-02:50", "daily")

    assert next_opening_ms(windows, at("2026-03-29T01:00:00")) == at(
        "2026-03-30T02:10:00"
    )


@given(
    now=st.integers(1_700_000_000_000, 1_900_000_000_000),
    open_min=st.integers(0, 1_439),
    length=st.integers(1, 1_440),
    day=st.sampled_from(["daily", "mon-fri", "sat,sun", "wed", "fri-mon"]),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia"]
    ),
)
def test_the_next_opening_is_open_within_eight_days_and_nothing_is_before(
    now, open_min, length, day, zone
):
    end = (open_min + length) % 1_440
    if end == open_min:
        text = "00:00-24:00"
    else:
        text = f"{open_min // 60:02}:{open_min % 60:02}-{end // 60:02}:{end % 60:02}"
    windows = nights(text, day, zone)

    opening = next_opening_ms(windows, EpochMs(now))

    assert is_open(windows, opening)
    assert now <= opening <= now + 15 * 86_400_000
    assert opening == now or not is_open(windows, EpochMs(opening - 1))


@pytest.mark.parametrize(
    ("text", "tz", "days", "wrong"),
    [
        ("22:00", "UTC", "daily", "22:00"),
        ("24:00-06:00", "UTC", "daily", "24:00-06:00"),
        ("22:00-25:00", "UTC", "daily", "22:00-25:00"),
        ("06:00-06:00", "UTC", "daily", "empty"),
        ("22:00-06:00", "Europe/Berlinn", "daily", "Europe/Berlin"),
        ("22:00-06:00", "../../etc/passwd", "daily", "etc/passwd"),
        ("22:00-06:00", "UTC", "mon-fry", "mon-fry"),
        ("22:00-06:00", "UTC", "", "days"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_text_that_was_wrong(
    text, tz, days, wrong
):
    with pytest.raises(ConfigError, match=wrong):
        Window(text, tz=tz, days=days)


@pytest.mark.parametrize(
    "second",
    [
        Window("05:00-07:00"),
        Window("23:00-23:30", days="sun"),
        Window("12:00-13:00", tz="Europe/Berlin"),
    ],
)
def test_windows_that_contradict_each_other_are_refused(second):
    with pytest.raises(ConfigError, match=r"22:00-06:00 daily UTC.*contradicts"):
        read_windows("window", [Window("22:00-06:00"), second])


def test_windows_that_touch_add_up():
    first, second = Window("22:00-06:00", days="sun"), Window("06:00-07:00", days="mon")
    windows = read_windows("window", [first, second])

    assert is_open(windows, at("2026-06-01T06:30:00", UTC))


@pytest.mark.parametrize("wrong", ["22:00-06:00", [], [1], None])
def test_a_window_is_a_window(wrong):
    with pytest.raises(ConfigError, match="use a Window"):
        read_windows("window", wrong)
