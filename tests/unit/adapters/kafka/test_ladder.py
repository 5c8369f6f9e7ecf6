from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from shifter.adapters.kafka.ladder import (
    DUE_HEADER,
    LANE_HEADER,
    DelayTarget,
    route,
    waiting,
)
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import Record

NOW = 1_767_225_600_000


def delayed(remaining_ms, headers=()):
    return Record("shop.mail.low", b"{}", list(headers), b"k", NOW + remaining_ms)


@pytest.mark.parametrize(
    ("remaining_ms", "topic"),
    [
        (-1, "shop.mail.low"),
        (0, "shop.mail.low"),
        (999, "shop.mail.low"),
        (1_000, "shop.delay.1s"),
        (3_999, "shop.delay.1s"),
        (4_000, "shop.delay.4s"),
        (86_400_000, "shop.delay.16384s"),
    ],
)
def test_a_record_goes_to_the_largest_tier_that_fits(remaining_ms, topic):
    assert route("shop", delayed(remaining_ms), NOW)[0] == topic


def test_a_record_without_a_due_time_goes_to_its_lane_untouched():
    record = Record("shop.mail.low", b"{}", [("a", b"1")])

    assert route("shop", record, NOW) == (record.topic, record.headers)


@given(
    remaining_ms=st.integers(1_000, 30 * 86_400_000),
    headers=st.lists(
        st.tuples(st.sampled_from(["a", "shifter"]), st.none() | st.binary(max_size=9))
    ),
)
def test_what_leaves_the_ladder_is_what_entered_it(remaining_ms, headers):
    record = delayed(remaining_ms, headers)

    topic, written = route("shop", record, NOW)

    assert topic in {f"shop.delay.{tier_s}s" for tier_s in TIERS_S}
    assert record.headers == headers
    goal = DelayTarget(record.topic, record.due_ms)
    assert waiting(written) == (goal, headers)


@pytest.mark.parametrize(
    ("lane", "due"),
    [
        (b"shop.mail.low", None),
        (None, b"1"),
        (b"", b"1"),
        (b"shop.mail.low", b""),
        (b"shop.mail.low", b"-1"),
        (b"shop.mail.low", b"1.5"),
        (b"shop.mail.low", b"1e9"),
        (b"shop.mail.low", b"9" * 16),
        (b"shop.mail.low", "٣".encode()),
        (b"\xff", b"1"),
        (b"x" * 250, b"1"),
    ],
)
def test_malformed_headers_name_no_goal(lane, due):
    written = [("a", b"1"), (LANE_HEADER, lane), (DUE_HEADER, due)]

    assert waiting(written) == (None, [("a", b"1")])


def test_missing_headers_name_no_goal():
    assert waiting([("a", None)]) == (None, [("a", None)])
