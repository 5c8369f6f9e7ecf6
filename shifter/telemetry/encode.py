"""One JSON value on one line that no terminal can misread.

JSON escapes ASCII's control characters by itself; this escapes also what it leaves
raw: DEL, the C1 controls, bidirectional overrides and other invisible characters.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")


def encode_line(value: object) -> bytes:
    r"""Compact JSON without a line break; never raises.

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
