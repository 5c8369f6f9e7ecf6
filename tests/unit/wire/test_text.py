from __future__ import annotations

import pytest

from shifter.wire.text import printable


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
def test_a_cut_text_is_as_long_as_allowed_and_says_that_it_was_cut(given, limit, shown):
    assert printable(given, limit) == shown
