"""Durations: every way to write one gives the same number, everything else an error."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from shifter.errors import ConfigError
from shifter.model.time import MAX_DURATION_MS, duration_ms

UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

milliseconds = st.integers(0, MAX_DURATION_MS)


def read(value: object) -> int | ConfigError:
    """What a value is taken for; any other error is a failure of the test."""
    try:
        return duration_ms("delay", value)
    except ConfigError as error:
        return error


@given(milliseconds)
def test_every_way_to_write_it_gives_the_same_number(ms):
    assert duration_ms("d", f"{ms}ms") == ms
    assert duration_ms("d", timedelta(milliseconds=ms)) == ms
    assert duration_ms("d", ms / 1_000) == ms
    assert duration_ms("d", f"{ms // 1_000}.{ms % 1_000:03}s") == ms


@given(st.sampled_from(list(UNIT_MS)), st.data())
def test_a_whole_number_of_a_unit_is_exact(unit, data):
    count = data.draw(st.integers(0, MAX_DURATION_MS // UNIT_MS[unit]))

    assert duration_ms("d", f"{count}{unit}") == count * UNIT_MS[unit]


@given(st.integers(0, 365), st.integers(0, 999_999), st.sampled_from(list(UNIT_MS)))
def test_a_part_of_a_millisecond_is_rounded_up(whole, millionths, unit):
    """Exact but for the float on the way: it may add a millisecond to many days."""
    exact = Fraction(whole * 10**6 + millionths, 10**6) * UNIT_MS[unit]

    found = duration_ms("d", f"{whole}.{millionths:06}{unit}")

    assert exact - Fraction(1, 10**6) <= found <= exact + 1


@given(
    st.text(max_size=12)
    | st.from_regex(r"\A\s?[+-]?\d{0,13}[.,e]?\d{0,7} ?(ms|s|m|h|d|S|sec)?\s?\Z")
)
def test_other_text_is_one_clear_error(text):
    found = read(text)

    if isinstance(found, ConfigError):
        assert (found.field, found.value) == ("delay", text)
    else:
        assert text.isascii()
        assert text.rstrip("smhd").replace(".", "", 1).isdigit()
        assert 0 <= found <= MAX_DURATION_MS


@given(
    st.integers()
    | st.floats()
    | st.timedeltas()
    | st.booleans()
    | st.none()
    | st.binary(max_size=3)
    | st.lists(st.integers(), max_size=2)
)
def test_any_value_is_a_duration_or_a_clear_error(value):
    found = read(value)

    if isinstance(found, ConfigError):
        assert found.field == "delay"
    else:
        assert not isinstance(value, bool)
        assert 0 <= found <= MAX_DURATION_MS


@given(milliseconds, milliseconds)
def test_the_minimum_itself_is_allowed(ms, minimum_ms):
    if ms >= minimum_ms:
        assert duration_ms("d", f"{ms}ms", minimum_ms=minimum_ms) == ms
    else:
        with pytest.raises(ConfigError, match=f"allowed: {minimum_ms} ms"):
            duration_ms("d", f"{ms}ms", minimum_ms=minimum_ms)
