"""Splits the text of a filter into tokens.

A filter is written by a person at a terminal and may come from anywhere: its length is
bounded, every character is looked at once, and an error names its place.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from shifter.errors import FilterError
from shifter.wire.untrusted import printable

MAX_FILTER_CHARS: Final = 2_000

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
# Each alternative consumes at least one character and none can be split in two ways.
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<number>-?[0-9]+(?:\.[0-9]+)?)(?P<unit>[A-Za-z]*)
      | (?P<word>[A-Za-z_][A-Za-z0-9_-]*)
      | (?P<mark>==|!=|<=|>=|<|>|\(|\)|\[|\]|,|\.)
      | (?P<quote>["'])
    )""",
    re.VERBOSE,
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


class TokenKind(StrEnum):
    """The kind of a token."""

    NUMBER = "number"
    TEXT = "text"
    DURATION = "duration"
    WORD = "word"
    MARK = "mark"
    END = "end"


class Token(NamedTuple):
    """One word of a filter.

    Attributes:
        kind: Its kind.
        text: Its characters; those of a quoted text without quotes and escapes.
        at: Place of its first character, from 0.
        value: Value of a number, seconds of a duration; 0 for all others.
    """

    kind: TokenKind
    text: str
    at: int
    value: int | float | Decimal = 0


def tokens(text: str) -> list[Token]:
    """The tokens of a filter; the last one is a `TokenKind.END`.

    Raises:
        FilterError: Too long, or a character that belongs to no word.

    >>> [t.text for t in tokens("error == 'x' and age < 6h")]
    ['error', '==', 'x', 'and', 'age', '<', '6h', '']
    """
    if len(text) > MAX_FILTER_CHARS:
        what = f"{len(text)} characters"
        raise FilterError(
            text, MAX_FILTER_CHARS, what, f"use at most {MAX_FILTER_CHARS}"
        )
    found: list[Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            what = f"{printable(text[at], 10)!r} means nothing here"
            want = 'write FIELD OPERATOR VALUE, such as error == "SMTPError"'
            raise FilterError(text, at, what, want)
        token, at = _token(text, match)
        found.append(token)
    return [*found, Token(TokenKind.END, "", end)]


def _token(text: str, match: re.Match[str]) -> tuple[Token, int]:
    if match["quote"] is not None:
        return _quoted(text, match.end() - 1)
    if match["number"] is not None:
        return _number(text, match), match.end()
    kind = TokenKind.WORD if match["word"] is not None else TokenKind.MARK
    name = "word" if kind is TokenKind.WORD else "mark"
    return Token(kind, match[name], match.start(name)), match.end()


def _number(text: str, match: re.Match[str]) -> Token:
    digits, unit, at = match["number"], match["unit"], match.start("number")
    if len(digits) > 30:
        raise FilterError(text, at, f"a number of {len(digits)} digits", "use 30")
    if not unit:
        # Payloads are read with all digits, so a filter is, too.
        number = Decimal(digits) if "." in digits else int(digits)
        return Token(TokenKind.NUMBER, digits, at, number)
    if unit not in _UNITS_S:
        want = f"units of time are {', '.join(_UNITS_S)}"
        raise FilterError(text, match.start("unit"), f"unknown unit {unit!r}", want)
    seconds = float(digits) * _UNITS_S[unit]
    if not math.isfinite(seconds) or seconds < 0:
        raise FilterError(text, at, f"{digits}{unit} is below zero", "use a span >= 0")
    return Token(TokenKind.DURATION, digits + unit, at, seconds)


def _quoted(text: str, at: int) -> tuple[Token, int]:
    quote, place, chars = text[at], at + 1, []
    while place < len(text) and text[place] != quote:
        char = text[place]
        if char == "\\" and place + 1 < len(text):
            place += 1
            char = _ESCAPES.get(text[place], text[place])
        chars.append(char)
        place += 1
    if place >= len(text):
        raise FilterError(
            text, at, "a text that does not end", f"close it with {quote}"
        )
    return Token(TokenKind.TEXT, "".join(chars), at), place + 1


def instant_ms(text: str) -> int | None:
    """An ISO instant as epoch milliseconds; UTC where it names no zone.

    >>> instant_ms("1970-01-02"), instant_ms("1970-01-01T00:00:01Z"), instant_ms("x")
    (86400000, 1000, None)
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    try:
        return int(instant.timestamp() * 1_000)
    except (OverflowError, ValueError, OSError):
        return None
