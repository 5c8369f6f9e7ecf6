from __future__ import annotations

import json

import msgspec
import pytest

from shifter.errors import DecodeError
from shifter.model.reason import Reason
from shifter.wire.untrusted import (
    MAX_DEPTH,
    check_depth,
    check_msgpack_depth,
    printable,
)

ARRAY = (b"[", b"]")
OBJECT = (b'{"a":', b"}")


def nested(pair: tuple[bytes, bytes], depth: int, core: bytes = b"0") -> bytes:
    return pair[0] * depth + core + pair[1] * depth


@pytest.mark.parametrize("pair", [ARRAY, OBJECT])
@pytest.mark.parametrize("limit", [0, 1, 2, MAX_DEPTH])
def test_the_limit_is_the_deepest_nesting_allowed(pair, limit):
    check_depth(nested(pair, limit), limit)

    with pytest.raises(DecodeError):
        check_depth(nested(pair, limit + 1), limit)


@pytest.mark.parametrize("depth", [1_000, 100_000, 450_000])
@pytest.mark.parametrize("pair", [ARRAY, OBJECT, (b"[{", b"}]"), (b"[", b"")])
def test_depth_that_would_kill_the_process_is_refused(pair, depth):
    with pytest.raises(DecodeError, match="nested deeper than 64"):
        check_depth(nested(pair, depth))


def test_width_is_not_depth():
    check_depth(json.dumps([[]] * 99_999).encode())
    check_depth(json.dumps([{"a": [{}]}] * 10_000).encode(), 4)


def test_width_on_top_of_depth_is_measured_exactly():
    wide = json.dumps([[[{}]] * 50, {"a": {"b": 1}}] * 50).encode()

    check_depth(wide, 4)
    with pytest.raises(DecodeError):
        check_depth(wide, 3)


@pytest.mark.parametrize(
    "text",
    ["[" * 200, '"' + "[{" * 100, "\\" + "[" * 200, '\\"]' * 200, "é\\\\" + "{" * 99],
)
def test_brackets_in_strings_do_not_count(text):
    check_depth(json.dumps({text: [text, [text]]}).encode(), 3)


@pytest.mark.parametrize(
    "raw", [b'["' + b"[" * 100, b"]" * 100 + b"[" * 100, b"[]" * 99 + b"]" + b"[" * 65]
)
def test_what_no_parser_would_reach_is_not_measured(raw):
    check_depth(raw)

    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(raw)


@pytest.mark.parametrize("raw", [b'"' * 200_000, b'"\\' * 200_000, b'["' * 200_000])
def test_hostile_quotes_take_linear_time(raw):
    """A backtracking pattern would not end within the test's timeout."""
    with pytest.raises(DecodeError):
        check_depth(b"[" * 65 + raw)


def test_the_error_carries_the_reason_it_was_asked_for():
    with pytest.raises(DecodeError) as caught:
        check_depth(nested(ARRAY, 65), reason=Reason.UNDECODABLE_ENVELOPE)

    assert caught.value.reason == Reason.UNDECODABLE_ENVELOPE


SCALARS = [
    *(None, True, False, 0, 127, -1, -32, 2**15, -(2**15), 2**31, -(2**31), 2**63),
    *(1.5, "", "a" * 31, "a" * 200, "a" * 40_000, "a" * 70_000),
    *(b"", b"b" * 200, b"b" * 40_000, b"b" * 70_000),
    *(msgspec.msgpack.Ext(5, b"x" * n) for n in (1, 2, 4, 8, 16, 3, 300, 70_000)),
]


def in_arrays(value: object, depth: int) -> object:
    for _ in range(depth):
        value = [value]
    return value


def in_maps(value: object, depth: int) -> object:
    for _ in range(depth):
        value = {"k": value}
    return value


@pytest.mark.parametrize("wrap", [in_arrays, in_maps])
@pytest.mark.parametrize("core", [*SCALARS, [0] * 20, [0] * 70_000], ids=type)
def test_msgpack_is_measured_whatever_stands_before_the_nesting(wrap, core):
    """Every token's length is known, or the scan would lose its way."""
    fill = 0 if isinstance(core, list) else 1
    before = [b"\x90" * 70, core]

    fits = msgspec.msgpack.encode([before, wrap(core, 62 + fill)])
    check_msgpack_depth(fits)

    with pytest.raises(DecodeError):
        check_msgpack_depth(msgspec.msgpack.encode([before, wrap(core, 64)]))


def test_long_maps_are_measured_too():
    long_map = {str(number): number for number in range(70_000)}
    raw = msgspec.msgpack.encode([b"\x80" * 70, long_map, dict.fromkeys(range(20))])

    check_msgpack_depth(raw, 2)
    with pytest.raises(DecodeError):
        check_msgpack_depth(raw, 1)


def test_empty_containers_of_msgpack_have_depth_as_well():
    check_msgpack_depth(b"\x91" * 63 + b"\x90" + b"\x90" * 10)

    with pytest.raises(DecodeError):
        check_msgpack_depth(b"\x91" * 64 + b"\x90" + b"\x90" * 10)


@pytest.mark.parametrize(
    "lie", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc9"]
)
def test_lengths_that_lie_end_where_the_bytes_do(lie):
    check_msgpack_depth(b"\x90" * 65 + lie)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("Grüße 数 🎉", "Grüße 数 🎉"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("\x1b[2J", r"\x1b[2J"),
        ("user\u202ecod.exe", r"user\u202ecod.exe"),
        ("\u2066\u2069\u200b\ufeff", r"\u2066\u2069\u200b\ufeff"),
        ("\ud800", r"\ud800"),
        ("back\\slash", "back\\slash"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(given, shown):
    assert printable(given, 100) == shown


@pytest.mark.parametrize(
    ("given", "limit", "shown"),
    [
        ("abcd", 4, "abcd"),
        ("abcde", 4, "abc…"),
        ("abcde", 1, "…"),
        ("\x00\x00", 8, r"\x00\x00"),
        ("\x00\x00", 7, r"\x00\x…"),
        ("\n" * 1_000_000, 6, r"\n\n\…"),
    ],
)
def test_a_cut_text_is_as_long_as_allowed_and_shows_that_it_was_cut(
    given, limit, shown
):
    assert printable(given, limit) == shown
