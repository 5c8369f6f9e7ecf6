"""A record as bytes in a row, with a checksum: SQLite does not notice a flipped bit."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import msgspec

from shifter.ports import Record
from shifter.wire.headers import Headers


class Body(NamedTuple):
    """What a row keeps of a record.

    Attributes:
        topic: Where it goes; of a row of a lane it is empty, the lane knows.
        appended_ms: When it was accepted.
    """

    topic: str
    key: bytes | None
    headers: Headers
    value: bytes
    appended_ms: int
    due_ms: int | None


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Body).decode


def pack(record: Record, now: int, *, topic: str = "") -> tuple[int, bytes]:
    """Checksum and bytes of a record."""
    raw = _ENCODE((topic, record.key, record.headers, record.value, now, record.due_ms))
    return zlib.crc32(raw), raw


def unpack(crc: int, raw: object) -> Body | None:
    """What `pack` was given; ``None`` if any bit of it changed."""
    if not isinstance(raw, bytes) or zlib.crc32(raw) != crc:
        return None
    try:
        return _DECODE(raw)
    except msgspec.MsgspecError:
        return None
