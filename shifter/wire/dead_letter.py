"""The facts of a dead letter: text headers beside the original ones.

The record's value, key and headers stay as they were, undecodable ones included. Each
field of `DeadLetterInfo` becomes one more header, ``shifter-`` and the field's name. A
dead letter is larger than its source and must never be too large for its topic, or a
bad record comes back for ever: the error's message and stack are cut first, then
original headers are left out, and a header has their number.

A dead letter that is read is untrusted: any client may write to a dead-letter topic.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from shifter.model.fleet import MAX_INSTANT_MS
from shifter.model.reason import Reason
from shifter.wire.envelope import (
    CONTENT_TYPE_HEADER,
    ENVELOPE_HEADER,
    EnvelopeV1,
)
from shifter.wire.failure import (
    MAX_LINE_CHARS,
    MAX_MESSAGE_CHARS,
    MAX_TYPE_CHARS,
    ErrorFacts,
    damage_fingerprint,
)
from shifter.wire.headers import Headers
from shifter.wire.untrusted import printable

DEAD_LETTER_ROOM_BYTES: Final = 49_152
"""Largest size of all headers of a dead letter together, by default.

Headers of a record that this package wrote take at most 25 KiB, so none of them is ever
left out; with the largest payload the dead letter stays below a 1 MB record. Of other
records, the envelope is kept first.
"""

MAX_STACK_BYTES: Final = 8_192
HEADERS_DROPPED: Final = "shifter-headers-dropped"
VALUE_DROPPED: Final = "shifter-value-dropped"
LEAST_ROOM_BYTES: Final = 8_192
"""Room for all fields of a dead letter except the error's message and stack."""

_MAX_STACK_LINES: Final = 60
_HEADER_OVERHEAD_BYTES: Final = 8
_MAX_DIGITS: Final = 18


class DeadLetterInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Why and where a record ended. All instants are epoch milliseconds, UTC.

    Attributes:
        job_id: The job's id; ``None`` when the envelope could not be read.
        job_type: The job type's name; ``None`` likewise.
        queue: Queue of the lane it was read from.
        reason: Why it is here: a `shifter.model.reason.Reason` value.
        origin_topic: Topic it was read from.
        origin_partition: Part of that topic.
        origin_offset: Position there.
        origin_timestamp_ms: When the log took the original record.
        attempts: Attempts made, the first included; 0 when it never ran.
        first_failed_ms: When an attempt failed for the first time.
        last_failed_ms: When it ended here.
        error_type: The last exception's class, or the reason.
        error_message: Its message; printable, one line.
        error_stack: Its frames, innermost last, then its causes; lines.
        fingerprint: 12 hexadecimal digits; equal for failures of one kind.
        worker: Who gave it up.
    """

    job_id: str | None
    job_type: str | None
    queue: str
    reason: str
    origin_topic: str
    origin_partition: int
    origin_offset: int
    origin_timestamp_ms: int
    attempts: int
    first_failed_ms: int | None
    last_failed_ms: int
    error_type: str
    error_message: str
    error_stack: str
    fingerprint: str
    worker: str


TEXT_LIMITS: Final = {
    "job_id": 36,
    "job_type": 200,
    "queue": 64,
    "reason": 64,
    "origin_topic": 249,
    "error_type": MAX_TYPE_CHARS,
    "error_message": MAX_MESSAGE_CHARS,
    "error_stack": MAX_STACK_BYTES,
    "fingerprint": 64,
    "worker": 255,
}
"""Characters of each text; the other fields are whole numbers."""

OPTIONAL_FIELDS: Final = frozenset({"job_id", "job_type", "first_failed_ms"})


class Origin(NamedTuple):
    """The place of the record that a dead letter is made of.

    Attributes:
        topic: Its topic.
        partition: Its partition.
        offset: Its offset.
        appended_ms: When it was appended, epoch milliseconds.
    """

    topic: str
    partition: int
    offset: int
    appended_ms: int


def dead_letter_info(  # noqa: PLR0913  # one keyword a header
    envelope: EnvelopeV1 | None,
    origin: Origin,
    error: ErrorFacts,
    *,
    queue: str,
    reason: Reason,
    attempts: int,
    first_failed_ms: int | None,
    last_failed_ms: int,
    worker: str = "",
) -> DeadLetterInfo:
    """The facts of the dead letter that a record becomes.

    Args:
        envelope: The record's envelope; ``None`` if it cannot be read.
        origin: Where the record was read.
        error: The failure that ended it.
        queue: Queue of the record's lane.
        reason: Why the record is given up.
        attempts: Attempts that were made, >= 0.
        first_failed_ms: When an attempt failed first; ``None`` where none did.
        last_failed_ms: When the record was given up.
        worker: Worker that gave it up; empty if it was no worker.
    """
    return DeadLetterInfo(
        job_id=None if envelope is None else envelope.id,
        job_type=None if envelope is None else envelope.type,
        queue=queue,
        reason=reason.value,
        origin_topic=origin.topic,
        origin_partition=origin.partition,
        origin_offset=origin.offset,
        origin_timestamp_ms=origin.appended_ms,
        attempts=attempts,
        first_failed_ms=first_failed_ms,
        last_failed_ms=last_failed_ms,
        error_type=error.type,
        error_message=error.message,
        error_stack=error.stack,
        fingerprint=error.fingerprint,
        worker=worker,
    )


def damage_facts(reason: Reason, detail: str) -> ErrorFacts:
    """The failure of a record that no handler has run, as an error's facts.

    Args:
        reason: Why the record is given up.
        detail: The reason in words.
    """
    return ErrorFacts(
        type=reason.value,
        message=detail,
        stack="",
        fingerprint=damage_fingerprint(reason.value, detail),
    )


def header_name(field: str) -> str:
    """The header that carries a field of `DeadLetterInfo`."""
    return "shifter-" + field.replace("_", "-")


_FIELD_OF: Final = {
    header_name(field): field for field in DeadLetterInfo.__struct_fields__
}
_REPLACED: Final = frozenset({*_FIELD_OF, HEADERS_DROPPED, VALUE_DROPPED})
_JOB: Final = frozenset({ENVELOPE_HEADER, CONTENT_TYPE_HEADER})
_DIAGNOSTICS: Final = ("error_message", "error_stack")
_IS_NUMBER: Final = re.compile(rb"[0-9]{1,18}").fullmatch


def dead_letter_headers(
    info: DeadLetterInfo,
    original: Headers,
    *,
    room_bytes: int = DEAD_LETTER_ROOM_BYTES,
    dropped_bytes: int | None = None,
) -> Headers:
    """The headers of a dead letter.

    Args:
        info: The facts; texts are made printable, texts and numbers are bounded.
        original: The record's headers, raw; kept in order, except for those of an
            earlier dead letter.
        room_bytes: Largest size of all headers together, >= `LEAST_ROOM_BYTES`.
        dropped_bytes: Size of the value, if it is left out.

    Returns:
        The original headers, then those of the facts.
    """
    kept = [header for header in original if header[0] not in _REPLACED]
    facts = {
        field: _written(field, value)
        for field in DeadLetterInfo.__struct_fields__
        if (value := getattr(info, field)) is not None
    }
    # Message and stack get the room that everything else leaves.
    diagnostics = [facts[field] for field in _DIAGNOSTICS]
    facts.update(dict.fromkeys(_DIAGNOSTICS, b""))
    added: Headers = [(header_name(field), facts[field]) for field in facts]
    dropped = [] if dropped_bytes is None else [(VALUE_DROPPED, b"%d" % dropped_bytes)]
    added += dropped
    room = room_bytes - _size(added)
    spare = room - _size(kept)
    if spare < 0:
        kept, left_out = _fitting(kept, room)
        return [*kept, *added, left_out]
    for field, text in zip(_DIAGNOSTICS, diagnostics, strict=True):
        facts[field] = _cut(text, spare)
        spare -= len(facts[field])
    return [*kept, *((header_name(field), facts[field]) for field in facts), *dropped]


def read_dead_letter(headers: Headers) -> DeadLetterInfo | None:
    """The facts of a dead letter; ``None`` if it is malformed, or of another system.

    Texts are bounded and made printable again; a topic or a job id may be invented.
    Never raises.
    """
    found = {
        _FIELD_OF[name]: value
        for name, value in headers
        if name in _FIELD_OF and value is not None
    }
    facts: dict[str, str | int | None] = {}
    for field in DeadLetterInfo.__struct_fields__:
        value = found.get(field)
        if value is None:
            if field not in OPTIONAL_FIELDS:
                return None
            facts[field] = None
        elif field in TEXT_LIMITS:
            facts[field] = read_text(field, value)
        elif _IS_NUMBER(value):
            facts[field] = _bounded(field, int(value))
        else:
            return None
    return msgspec.convert(facts, DeadLetterInfo)


def _written(field: str, value: str | int) -> bytes:
    if isinstance(value, int):
        return b"%d" % _bounded(field, value)
    return _clean(field, value).encode()


def _bounded(field: str, value: int) -> int:
    limit = MAX_INSTANT_MS if field.endswith("_ms") else 10**_MAX_DIGITS - 1
    return min(max(value, 0), limit)


def read_text(field: str, value: bytes) -> str:
    """A text of a dead letter, bounded and printable; it is untrusted."""
    # A character takes at most four bytes, so nothing longer needs to be decoded.
    return _clean(field, value[: 4 * TEXT_LIMITS[field]].decode("utf-8", "replace"))


def _clean(field: str, text: str) -> str:
    limit = TEXT_LIMITS[field]
    if field != "error_stack":
        return printable(text, limit)
    lines = text[:limit].split("\n")[:_MAX_STACK_LINES]
    clean = "\n".join(printable(line, MAX_LINE_CHARS) for line in lines)
    return _cut(clean.encode(), limit).decode()


def _cut(raw: bytes, room: int) -> bytes:
    """At most ``room`` bytes of UTF-8, >= 0, never half a character."""
    return raw[:room].decode("utf-8", "ignore").encode()


def _fitting(headers: Headers, room: int) -> tuple[Headers, tuple[str, bytes]]:
    """The headers that fit, and a header with the number of those that do not.

    The headers of the job come first: without them it could not be replayed.
    """
    room -= _size([(HEADERS_DROPPED, b"0" * _MAX_DIGITS)])
    # Sorting is stable: headers of the job in their order, then the others in theirs.
    order = sorted(range(len(headers)), key=lambda place: headers[place][0] not in _JOB)
    kept: set[int] = set()
    for place in order:
        size = _size([headers[place]])
        if size <= room:
            kept.add(place)
            room -= size
    left_out = (HEADERS_DROPPED, b"%d" % (len(headers) - len(kept)))
    return [header for place, header in enumerate(headers) if place in kept], left_out


def _size(headers: Headers) -> int:
    return sum(
        len(name.encode("utf-8", "replace"))
        + (0 if value is None else len(value))
        + _HEADER_OVERHEAD_BYTES
        for name, value in headers
    )
