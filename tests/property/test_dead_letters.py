"""Filters, offsets, pace and exports, whatever they are given."""

from __future__ import annotations

import io
import string
from itertools import pairwise

from hypothesis import given, strategies as st

from shifter.deadletter.filter import compile_filter
from shifter.deadletter.journal import OffsetSet
from shifter.deadletter.letter import FIELDS, Letter
from shifter.deadletter.pace import PacePolicy, batch_size, wait_s
from shifter.deadletter.plan import ReplayPolicy, ReplayRoutes, Send, decide
from shifter.deadletter.transfer import (
    CSV,
    JSON_LINES,
    heading,
    line_of,
    read_lines,
    write_line,
)
from shifter.errors import FilterError
from shifter.ports import Delivery
from tests.unit.deadletter.letters import NOW, SOURCE, letter

WORDS = st.sampled_from(
    [
        *FIELDS,
        *("payload", "header", "and", "or", "not", "in", "exists", "contains"),
        *("==", "!=", "<", "<=", ">", ">=", "(", ")", "[", "]", ",", ".", "true"),
        *("null", "6h", "10", "-1.5", '"x"', "'y'", "startswith", "\\", '"'),
    ]
)
OFFSETS = st.integers(0, 60)
HEADERS = st.lists(
    st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=30)), max_size=6
)


@given(st.lists(WORDS, max_size=25).map(" ".join) | st.text(max_size=60))
def test_a_text_is_a_filter_that_answers_or_a_named_mistake(text):
    mistake = test = None
    try:
        test = compile_filter(text)
    except FilterError as error:
        mistake = error

    if test is not None:
        assert test(letter()) in (True, False)
        assert test(letter(None, [])) in (True, False)
    else:
        assert 0 <= mistake.at <= len(text)
        assert mistake.want


@given(
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    st.integers(-20, 20),
    st.integers(-20, 20),
)
def test_numbers_compare_as_in_python(operator, left, right):
    found = letter(b'{"n": %d}' % left)

    assert compile_filter(f"payload.n {operator} {right}")(found) is eval(
        f"{left} {operator} {right}"
    )


@given(st.text(alphabet=string.printable, max_size=40))
def test_a_quoted_text_is_equal_to_itself(text):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    found = letter(b"{}", [("x", text.encode())])

    assert compile_filter(f'header["x"] == "{quoted}"')(found) is True


@given(st.lists(st.tuples(OFFSETS, OFFSETS), max_size=30))
def test_an_offset_set_is_a_set_of_offsets(steps):
    ranges, plain = OffsetSet(), set()
    for first, end in steps:
        ranges.add(first, end)
        plain |= set(range(first, end))

    assert [offset for offset in range(70) if offset in ranges] == sorted(plain)
    assert len(ranges) == len(plain)
    assert [offset for range_ in ranges for offset in range(*range_)] == sorted(plain)
    assert all(end < first for (_, end), (first, _) in pairwise(ranges))


@given(
    st.none() | st.floats(0.1, 1e6),
    st.floats(0, 100),
    st.lists(st.integers(0, 10**6), min_size=2, max_size=6),
)
def test_more_letters_never_take_less_time_and_never_beat_the_rate(rate, ramp, counts):
    policy = PacePolicy(rate_per_s=rate, slow_start_s=ramp)
    waits = [wait_s(policy, count) for count in sorted(counts)]

    assert waits == sorted(waits)
    assert all(1 <= batch_size(policy, count, most=500) <= 500 for count in counts)
    if rate is not None:
        assert all(
            wait * rate >= count * (1 - 1e-9)
            for wait, count in zip(waits, sorted(counts), strict=True)
        )


@given(HEADERS, st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=9))
def test_any_record_survives_export_and_import(headers, value, key):
    headers = [(name.encode("utf-8", "replace").decode(), raw) for name, raw in headers]
    found = Letter(Delivery(SOURCE, key, value, headers, NOW, 0, 3), NOW)

    for kind in (JSON_LINES, CSV):
        text = heading(kind) + write_line(line_of(found), kind)
        [record] = read_lines(io.StringIO(text, newline=""))
        assert (record.key, record.value) == (key, value or b"")
        assert record.headers == headers


@given(HEADERS, st.none() | st.binary(max_size=40))
def test_no_record_is_sent_anywhere_by_its_own_word(headers, value):
    road = ReplayRoutes(
        run="r", namespace="shop", source=SOURCE, lanes=frozenset({"shop.mail.low"})
    )
    found = Letter(Delivery(SOURCE, None, value, headers, NOW, 0, 3), NOW)

    fate = decide(found, ReplayPolicy(), road, now_ms=NOW)

    assert not isinstance(fate, Send)
