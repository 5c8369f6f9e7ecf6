"""Text and values from outside, made safe to print.

Error messages, header values and topic names end on terminals, in logs and in dead
letters. A terminal obeys what is in them: colours, cursor moves, bidirectional
overrides. What cannot be printed is shown as a Python escape instead.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

HEX_SHAPE: Final = bytes(
    ord("0") if chr(byte) in "0123456789abcdef" else byte if byte == ord("-") else 1
    for byte in range(256)
)
"""For ``bytes.translate``: lower-case hexadecimal digits become ``0``, hyphens stay.

One comparison then tells whether a UUID or a trace id has its canonical form, in a
third of the time of a regular expression.
"""

_CUT: Final = "…"
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")


def printable(text: str, limit: int) -> str:
    r"""``text`` with everything that is not printable escaped, cut to ``limit``.

    Control characters (also newlines), ANSI sequences, bidirectional overrides, other
    format characters and lone surrogates become ``\x1b``, ``\u202e`` and so on. It
    is for eyes: a backslash stays as it is, so the text cannot be turned back.

    Args:
        text: Of any length and origin; only its first ``limit`` characters are read.
        limit: Most characters of the result, >= 1; a cut text ends in ``…``.

    >>> printable("red \x1b[31m alert", 60)
    'red \\x1b[31m alert'
    >>> printable("abcdef", 4)
    'abc…'
    """
    head = text[:limit]
    if not head.isprintable():
        head = "".join(char if char.isprintable() else _escape(char) for char in head)
    if len(head) > limit or len(text) > limit:
        return head[: limit - 1] + _CUT
    return head


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def encode_line(value: object) -> bytes:
    r"""Compact JSON on one line that no terminal can misread; never raises.

    JSON escapes ASCII's control characters by itself; this escapes also what it leaves
    raw: DEL, the C1 controls, bidirectional overrides and other invisible characters.

    >>> encode_line({"name": "a\u202eb\x1b[2J", "n": 1, "ä": None}).decode()
    '{"name":"a\\u202eb\\u001b[2J","n":1,"ä":null}'
    """
    try:
        encoded = msgspec.json.encode(value, enc_hook=repr)
    except (TypeError, ValueError, RecursionError):
        # Lone surrogates, keys that are no text, cycles: spelled out, not refused.
        return _spelled_out(value)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _SUSPECT.sub(_escaped, encoded.decode()).encode()


def _spelled_out(value: object) -> bytes:
    import json  # noqa: PLC0415  # only for what msgspec cannot encode

    try:
        return json.dumps(value, default=repr, skipkeys=True).encode()
    except (TypeError, ValueError, RecursionError):
        return json.dumps(repr(value)[:1_000]).encode()


def _escaped(match: re.Match[str]) -> str:
    found = match[0]
    return found if found.isprintable() else _as_escape(found)


def _as_escape(character: str) -> str:
    units: Any = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))
