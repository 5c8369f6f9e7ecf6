"""The text beside a committed position: which records ended ahead of it.

It is untrusted when it is read again: it carries a magic, a version and a checksum that
covers the group, the topic, the partition and the position it belongs to. Whatever is
doubtful is ignored as a whole; records then run again, which the claim store makes
harmless. A text counts only for offsets that the log holds.

Two forms, the shorter is taken: the lengths of the runs of open and of ended records,
or a bitmap. Behind it, after ``#``, stands the id of the topic that the commit counts:
a topic that is deleted and made again under its name has another id, and the commit
means nothing there. Releases before the id was written read such a text as empty.

Source: confluent's parallel-consumer (its encodings, and the bugs found in them);
Kafka's ``offset.metadata.max.bytes`` of 4096, which is 4095 characters.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

Range: TypeAlias = tuple[int, int]
"""Offsets from the first, included, to the second, excluded."""

MAX_CHARS: Final = 4_000
"""Longest text that `encode` makes, without the id of the topic.

With an id of at most 64 characters it stays below the 4,095 characters of a broker.
"""

_MAGIC: Final = "s1"
_RUNS: Final = b"r"
_BITS: Final = b"b"
_CRC_BYTES: Final = 4
_MOST_BYTES: Final = (MAX_CHARS - len(_MAGIC)) // 4 * 3 - _CRC_BYTES - 1
"""Bytes of a text: base64 holds three in four characters; one byte is the kind."""

_MOST_BITS: Final = _MOST_BYTES * 8

_MOST_READ: Final = 4_096
"""Longest text that is read: the broker's default of ``offset.metadata.max.bytes``."""

_VARINT_BITS: Final = 56
"""Bits of the largest varint that is read: distances of offsets are far below 2**56."""
_ONES: Final = re.compile("1+")
_TOPIC_ID: Final = re.compile(r"#([A-Za-z0-9+/_-]{1,64})\Z")


def binding(group: str, topic: str, partition: int) -> str:
    """The partition and group that a text belongs to, for `encode` and `decode`.

    Args:
        group: Name of the consumer group.
        topic: Name of the topic.
        partition: Number of the partition.
    """
    return f"{group}\n{topic}\n{partition}"


def mark(topic_id: str | None) -> str:
    """What stands behind a text: the topic's id; empty where it is not known.

    >>> mark("Ab+/9"), mark(None)
    ('#Ab+/9', '')
    """
    return "" if topic_id is None else f"#{topic_id}"


def topic_id_of(metadata: str | None) -> str | None:
    """The id of the topic that a commit counts; ``None`` if its text has none.

    >>> topic_id_of("s1AAAA#Ab+/9"), topic_id_of("s1AAAA"), topic_id_of(None)
    ('Ab+/9', None, None)
    """
    if not metadata or len(metadata) > _MOST_READ:
        return None
    found = _TOPIC_ID.search(metadata)
    return None if found is None else found[1]


def encode(ranges: Sequence[Range], *, binding: str, position: int) -> str:
    """The text for the records that ended ahead of a committed position.

    Run lengths or a bitmap, whichever is shorter. The bitmap holds 23,936 offsets, more
    than a full window; what lies behind is left out, and would run again.

    Args:
        ranges: Ascending, disjoint, not adjacent, none below ``position``.
        binding: From `binding`.
        position: The offset committed with this text.

    Returns:
        At most `MAX_CHARS` ASCII characters; empty without such records.
    """
    if not ranges:
        return ""
    bits_bytes = (ranges[-1][1] - position + 7) // 8
    body = _runs(ranges, position, most=min(bits_bytes, _MOST_BYTES))
    if body is None:
        body = _bits(ranges, position)
    raw = _checksum(body, binding, position) + body
    return _text(raw)


def decode(
    metadata: str | None, *, binding: str, position: int, high: int
) -> list[Range]:
    """The ranges that ended ahead of ``position``; empty if the text is in doubt.

    Never raises, whatever the text; works a bounded time.

    Args:
        metadata: As found beside a committed offset; untrusted.
        binding: From `binding`.
        position: The committed offset.
        high: One past the last offset that the log holds.

    Returns:
        Ranges, ascending, disjoint, within ``position`` to ``high``.
    """
    if not metadata or len(metadata) > _MOST_READ or not metadata.startswith(_MAGIC):
        return []
    metadata = metadata.partition("#")[0]
    try:
        raw = binascii.a2b_base64(metadata[len(_MAGIC) :], strict_mode=True)
    except ValueError:
        return []
    # The last character has bits that the decoder drops; there is one text for a map.
    if _text(raw) != metadata:
        return []
    body = raw[_CRC_BYTES:]
    if raw[:_CRC_BYTES] != _checksum(body, binding, position):
        return []
    read = {_RUNS: _ranges_of_runs, _BITS: _ranges_of_bits}.get(body[:1])
    ranges = read(body[1:], position) if read is not None else None
    return ranges if ranges and ranges[-1][1] <= high else []


def _text(raw: bytes) -> str:
    return _MAGIC + binascii.b2a_base64(raw, newline=False).decode("ascii")


def _checksum(body: bytes, binding: str, position: int) -> bytes:
    bound = f"{binding}\n{position}\n".encode(errors="backslashreplace")
    return binascii.crc32(bound + body).to_bytes(_CRC_BYTES, "big")


def _runs(ranges: Sequence[Range], position: int, *, most: int) -> bytes | None:
    """Lengths of the runs, open ones and ended ones in turn; ``None`` if too long."""
    body = bytearray(_RUNS)
    for first, end in ranges:
        for length in (first - position, end - first):
            while length > 0x7F:
                body.append(length & 0x7F | 0x80)
                length >>= 7  # noqa: PLW2901  # eaten from below
            body.append(length)
        position = end
        if len(body) > most + 1:
            return None
    return bytes(body)


def _bits(ranges: Sequence[Range], position: int) -> bytes:
    """One bit an offset, the lowest first, 1 for ended."""
    bits = 0
    for first, end in ranges:
        start, stop = first - position, min(end - position, _MOST_BITS)
        if start < stop:
            bits |= (1 << stop) - (1 << start)
    return _BITS + bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _ranges_of_runs(body: bytes, position: int) -> list[Range] | None:
    lengths, length, shift = [], 0, 0
    for byte in body:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(length)
            length, shift = 0, 0
        elif shift >= _VARINT_BITS:
            return None
    ranges = []
    for gap, run in zip(lengths[::2], lengths[1::2], strict=False):
        if not run:
            return None
        ranges.append((position + gap, position + gap + run))
        position += gap + run
    return ranges if len(lengths) == 2 * len(ranges) and not shift else None


def _ranges_of_bits(body: bytes, position: int) -> list[Range]:
    bits = format(int.from_bytes(body, "little"), "b")[::-1]
    return [
        (position + run.start(), position + run.end()) for run in _ONES.finditer(bits)
    ]
