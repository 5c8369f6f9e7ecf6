r"""Guards for what comes from outside: numbers and names in bounds, text, depth.

Error messages, header values and topic names end on terminals, in logs and in dead
letters. A terminal obeys what is in them: colours, cursor moves, bidirectional
overrides. `printable` shows what cannot be printed as a Python escape, `encode_line` as
an escape of JSON.

msgspec parses by recursion and has no limit of its own: a document of depth 900 kills
the process on a thread with a small stack. So every document is measured first, in
one pass over its bytes, whatever fields it is in, known or not.

JSON: strings are cut out, brackets become +1 and -1, everything else goes, and the
largest running sum is the depth. In front of the first misplaced bracket, which is as
far as a parser gets, that sum is exact. Almost every document is let through before
that, since it has too few brackets to be deep.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from shifter.errors import DecodeError
from shifter.model.fleet import MAX_COUNT, MAX_INSTANT_MS, MAX_RATE
from shifter.model.reason import Reason

Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
InstantMs: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_INSTANT_MS)]
Rate: TypeAlias = Annotated[float, Meta(ge=0, le=MAX_RATE)]
MAX_SHORT: Final = 200
"""Characters of a text in a worker's report."""
ShortText: TypeAlias = Annotated[str, Meta(max_length=MAX_SHORT)]

HEX_SHAPE: Final = bytes(
    ord("0") if chr(byte) in "0123456789abcdef" else byte if byte == ord("-") else 1
    for byte in range(256)
)
"""For ``bytes.translate``: lower-case hexadecimal digits become ``0``, hyphens stay.

One comparison then shows whether a UUID or a trace id has its canonical form, in a
third of the time of a regular expression.
"""

MAX_NAME: Final = 128
"""Characters of a name that a store keeps as it is; a job's id has 36."""

_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")

MAX_DEPTH: Final = 64

MAX_CONTAINERS: Final = 100_000
"""Arrays and objects of a document. Each costs a parser far more than its two bytes: a
document of 900 kB that is nothing else holds a process up for 0.3 s and more. A list of
pairs of numbers, ten bytes each, has as many in a megabyte."""

_OPEN_ARRAY: Final = ord("[")

# Possessive, so that an open string is passed over once and never tried again.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes
_NO_BRACKET: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")

_NO_CONTAINER: Final = bytes(
    byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF)
)
# Runs of msgpack values that have one size, and no children.
_RUN: Final = re.compile(
    rb"([\x00-\x80\x90\xa0\xc0\xc2\xc3\xe0-\xff]+)|((?:[\xcc\xd0].)+)"
    rb"|((?:[\xcd\xd1]..)+)|((?:[\xca\xce\xd2].{4})+)|((?:[\xcb\xcf\xd3].{8})+)",
    re.DOTALL,
).match
_RUN_SIZE: Final = (0, 1, 2, 3, 5, 9)

# First bytes of msgpack scalars: the bytes that follow, or how many of them are a
# length and how many more come before the content.
_FIXED_BYTES: Final = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_SIZED_BYTES: Final = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip


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
        return head[: limit - 1] + "…"
    return head


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def bounded(text: str) -> str:
    """``text`` if it is short and printable, else its digest; no two become one.

    A store keeps these in the place of names that users or records choose: they can
    then neither fill the store nor fail to be written.

    >>> bounded("0192f3c4-aaaa-7000-8000-000000000000")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> bounded("#1")[:9]
    '#0b0fa0b2'
    """
    is_plain = len(text) <= MAX_NAME and text.isprintable() and text[:1] != "#"
    return text if is_plain else digest(text)


def digest(text: str) -> str:
    """The SHA-256 of ``text`` as a name; no other bounded name has its mark."""
    raw = text.encode(errors="surrogatepass")
    return f"#{hashlib.sha256(raw).hexdigest()}"


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


def check_depth(
    raw: bytes,
    limit: int = MAX_DEPTH,
    *,
    reason: Reason = Reason.UNDECODABLE_PAYLOAD,
) -> None:
    """Return if the JSON document ``raw`` is nested at most ``limit`` deep.

    It must also have at most `MAX_CONTAINERS` arrays and objects. A number or string
    has depth 0, ``[]`` has depth 1. Bytes that are not JSON at all may pass.

    Args:
        raw: Any bytes.
        limit: Deepest nesting allowed, >= 0.
        reason: The reason code of the error.

    Raises:
        DecodeError: Nested deeper than ``limit``, or too finely.
    """
    # Most documents are one flat object. Searching bytes for a number is fast.
    if _OPEN_ARRAY not in raw and raw.rfind(b"{") <= 0 < limit:
        return
    # Fewer brackets than the limit, those in strings included, cannot nest deeper.
    if raw.count(b"{") + raw.count(b"[") <= limit:
        return
    steps = _STRINGS.sub(b"", raw).translate(_STEPS, _NO_BRACKET)
    depths = itertools.accumulate(memoryview(steps).cast("b"))
    if max(depths, default=0) > limit:
        raise DecodeError(reason, f"nested deeper than {limit}")
    if steps.count(b"\x01") > MAX_CONTAINERS:
        raise _too_many(reason)


def check_msgpack_depth(raw: bytes, limit: int = MAX_DEPTH) -> None:
    """Return if a msgpack document passes the bounds of `check_depth`.

    A length may be false, so the scan ends where the bytes do. Its time is linear; runs
    of values of one size are passed over at once.

    Raises:
        DecodeError: Nested deeper than ``limit``, or too finely.
    """
    if len(raw.translate(None, _NO_CONTAINER)) <= limit:
        return
    # Values still to come, of the document and of each open container.
    to_come, position, containers = [1], 0, 0
    while to_come and position < len(raw):
        count, size, found, children = _next(raw, position, to_come[-1])
        position, containers = position + size, containers + found
        if found and len(to_come) > limit:
            raise DecodeError(Reason.UNDECODABLE_PAYLOAD, f"nested deeper than {limit}")
        to_come[-1] -= count
        if children is not None:
            to_come.append(children)
        if containers > MAX_CONTAINERS:
            raise _too_many(Reason.UNDECODABLE_PAYLOAD)
        while to_come and not to_come[-1]:
            to_come.pop()


def _next(raw: bytes, position: int, most: int) -> tuple[int, int, int, int | None]:
    """What follows: how many values, their bytes, and how many are containers.

    Values of one size are taken together. Of a container the children come last; else
    ``None``.
    """
    run = _run(raw, position, most)
    if run is not None:
        count, size, empty = run
        return count, count * size, empty, None
    children, size = _token(raw, position)
    return 1, size, children is not None, children


def _run(raw: bytes, position: int, most: int) -> tuple[int, int, int] | None:
    """How many values of one size follow, their size, and how many are empty ones."""
    found = _RUN(raw, position, position + most * _RUN_SIZE[-1])
    if found is None:
        return None
    size = _RUN_SIZE[found.lastindex or 1]
    count = min(most, (found.end() - position) // size)
    empty = 0
    if size == 1:
        end = position + count
        empty = raw.count(b"\x90", position, end) + raw.count(b"\x80", position, end)
    return count, size, empty


def _too_many(reason: Reason) -> DecodeError:
    return DecodeError(reason, f"more than {MAX_CONTAINERS} arrays and objects")


def _token(raw: bytes, position: int) -> tuple[int | None, int]:
    """Children of the token at ``position``, ``None`` for a scalar; its own bytes."""
    first = raw[position]
    if 0x80 <= first <= 0x8F:  # fixmap
        return (first & 0x0F) * 2, 1
    if 0x90 <= first <= 0x9F:  # fixarray
        return first & 0x0F, 1
    if 0xA0 <= first <= 0xBF:  # fixstr
        return None, 1 + (first & 0x1F)
    if first >= 0xDC:  # array or map of 16 or 32 bits, else fixint
        return _container(raw, position, first)
    if first in _SIZED_BYTES:
        width, extra = _SIZED_BYTES[first]
        return None, 1 + width + extra + _length(raw, position, width)
    return None, 1 + _FIXED_BYTES.get(first, 0)


def _container(raw: bytes, position: int, first: int) -> tuple[int | None, int]:
    if first > 0xDF:  # negative fixint
        return None, 1
    width = 2 if first in (0xDC, 0xDE) else 4
    factor = 1 if first <= 0xDD else 2  # a map has keys and values
    return _length(raw, position, width) * factor, 1 + width


def _length(raw: bytes, position: int, width: int) -> int:
    return int.from_bytes(raw[position + 1 : position + 1 + width], "big")
