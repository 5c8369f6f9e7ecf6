from __future__ import annotations

from datetime import timedelta

import pytest

from shifter.errors import ConfigError
from shifter.model.time import MAX_DURATION_MS, duration_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("6h", 21_600_000),
        ("7d", 604_800_000),
        ("1.5s", 1_500),
        ("0s", 0),
        (2, 2_000),
        (0, 0),
        (0.25, 250),
        (1.1, 1_100),
        (2.007, 2_007),  # 2007.0000000000002 as a float of milliseconds
        (timedelta(minutes=2), 120_000),
    ],
)
def test_durations_as_people_write_them(value, ms):
    assert duration_ms("delay", value) == ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("0.1ms", 1),
        ("1.0005s", 1_001),
        (0.0001, 1),
        (timedelta(microseconds=1), 1),
    ],
)
def test_no_wait_becomes_shorter_by_rounding(value, ms):
    assert duration_ms("delay", value) == ms


@pytest.mark.parametrize(
    "value",
    [
        "10",
        "-5s",
        "1e9h",
        "5 minutes",
        "\N{INFINITY}",
        "",
        "s",
        " 5s",
        "5s\n",
        "5S",
        "5 s",
        "+5s",
        ".5s",
        "5.s",
        "1.2.3s",
        "5s5s",
        "0x5s",
        "1_000s",
        "\N{ARABIC-INDIC DIGIT THREE}s",
        "9" * 10_000 + "s",
        True,
        None,
        b"5s",
        [5],
        float("nan"),
        float("inf"),
        float("-inf"),
        1e308,
    ],
)
def test_what_is_no_duration_is_refused_with_examples(value):
    with pytest.raises(ConfigError, match="use a duration such as") as caught:
        duration_ms("delay", value)

    assert caught.value.field == "delay"


@pytest.mark.parametrize(
    "value",
    ["999999999999d", "367d", 10**400, -1, -(10**400), timedelta.min, timedelta.max],
)
def test_a_duration_out_of_range_names_the_range(value):
    with pytest.raises(ConfigError, match="allowed: 0 ms to 366 days"):
        duration_ms("delay", value)


def test_a_year_is_the_longest():
    assert duration_ms("delay", "366d") == MAX_DURATION_MS
    with pytest.raises(ConfigError):
        duration_ms("delay", timedelta(milliseconds=MAX_DURATION_MS + 1))


def test_the_minimum_is_allowed_and_named_when_missed():
    assert duration_ms("timeout", "1ms", minimum_ms=1) == 1
    with pytest.raises(ConfigError, match="timeout is 0; allowed: 1 ms"):
        duration_ms("timeout", 0, minimum_ms=1)
