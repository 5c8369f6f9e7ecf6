"""Text from outside, made safe to print.

Error messages, header values and topic names end on terminals, in logs and in dead
letters. A terminal obeys what is in them: colours, cursor moves, bidirectional
overrides. What cannot be printed is shown as a Python escape instead.
"""

from __future__ import annotations

from typing import Final

HEX_SHAPE: Final = bytes(
    ord("0") if chr(byte) in "0123456789abcdef" else byte if byte == ord("-") else 1
    for byte in range(256)
)
"""For ``bytes.translate``: lower-case hexadecimal digits become ``0``, hyphens stay.

One comparison then tells whether a UUID or a trace id has its canonical form, in a
third of the time of a regular expression.
"""

_CUT: Final = "…"


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
