"""Record headers: written for a job, and read from untrusted records.

Three names are reserved: ``shifter`` (the envelope), ``content-type`` and
``traceparent``. All other headers are the user's and stay as they are, also in retries;
only names that begin with ``shifter`` are dropped, so that no other program can forge a
header of this package.

Kafka clients let anything through (line breaks in names, null values, 40 kB names,
names that repeat), and programs between a producer and a worker add headers of their
own: OpenTelemetry's instrumentation appends a second ``traceparent`` to each record it
sends. So only the envelope decides whether a job runs. Of the other reserved names the
first value counts, and of the user's headers those are kept that fit into the limits
here, in order. Those that do not fit are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from shifter.errors import DecodeError, WireError
from shifter.model.lane import Lane, parse_lane
from shifter.model.reason import Reason
from shifter.wire.envelope import (
    CONTENT_TYPE_HEADER,
    ENVELOPE_HEADER,
    TRACEPARENT_HEADER,
    EnvelopeV1,
    decode_envelope,
    encode_envelope,
)
from shifter.wire.untrusted import HEX_SHAPE, printable

Headers: TypeAlias = list[tuple[str, bytes | None]]
"""Header names and values, in order, repeats allowed; as in `shifter.ports`."""

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

_CONTENT_ENCODING: Final = "content-encoding"
_IDENTITY: Final = b"identity"

MAX_HEADERS: Final = 64
"""Headers that this package writes; earlier releases refuse a record with more."""

MAX_USER_HEADERS: Final = MAX_HEADERS - 3
MAX_NAME_BYTES: Final = 64
MAX_VALUE_BYTES: Final = 4_096
MAX_USER_BYTES: Final = 16_384
MAX_CONTENT_TYPE_BYTES: Final = 200

_RESERVED: Final = frozenset({ENVELOPE_HEADER, CONTENT_TYPE_HEADER, TRACEPARENT_HEADER})
_CONTENT_TYPES: Final = {JSON.encode(): JSON, MSGPACK.encode(): MSGPACK}
_TRACE_STATE: Final = frozenset({"tracestate", "baggage"})
"""Headers that travel beside a ``traceparent``; of each, the first one counts."""

_IS_PLAIN: Final = re.compile(r"(?!(?i:shifter))[!-~]{1,64}").fullmatch
_TRACEPARENT: Final = b"-".join((b"0" * 2, b"0" * 32, b"0" * 16, b"0" * 2))


class ReadHeaders(NamedTuple):
    """The headers of a record, checked.

    Attributes:
        envelope: The job.
        content_type: Format of the payload, printable; JSON if no header has it. The
            payload's reader refuses a format that does not exist.
        traceparent: W3C trace context: the first that is well-formed, if there is one.
        extra: The user's own headers that fit, in order.
        dropped: How many headers of the user's do not fit, >= 0.
    """

    envelope: EnvelopeV1
    content_type: str
    traceparent: str | None
    extra: Headers
    dropped: int = 0


def build_headers(
    envelope: EnvelopeV1,
    *,
    content_type: str,
    traceparent: str | None = None,
    extra: Iterable[tuple[str, bytes | None]] = (),
) -> Headers:
    """Headers of a record to be written.

    Args:
        envelope: The job.
        content_type: Format of the payload.
        traceparent: W3C trace context, or ``None``.
        extra: The user's own headers; reserved names among them are dropped.
    """
    headers: Headers = [
        (ENVELOPE_HEADER, encode_envelope(envelope)),
        (CONTENT_TYPE_HEADER, content_type.encode()),
    ]
    if traceparent is not None:
        headers.append((TRACEPARENT_HEADER, traceparent.encode()))
    if extra:
        headers += [header for header in extra if not _is_reserved(header[0])]
    return headers


def headers_by_id(
    envelope: EnvelopeV1, *, content_type: str
) -> Callable[[str, Headers], Headers]:
    """A function that makes the headers of records that differ in their ids and traces.

    It takes the id of a job, and the headers of its trace.

    Args:
        envelope: Any of the jobs.
        content_type: Format of the payloads.
    """
    (name, raw), kind = build_headers(envelope, content_type=content_type)
    # The id is the first text in an envelope, so its first occurrence is the id.
    before, _, after = (raw or b"").partition(envelope.id.encode())

    def make(job_id: str, trace: Headers) -> Headers:
        return [(name, before + job_id.encode() + after), kind, *trace]

    return make


def read_headers(headers: Headers) -> ReadHeaders:
    """Read the headers of a record, which are untrusted.

    Raises:
        DecodeError: With ``Reason.UNDECODABLE_ENVELOPE``: there is no envelope, or
            two, or it cannot be read.
        UnsupportedVersionError: The envelope is of another version.
    """
    raw: bytes | None = None
    content_type: bytes | None = None
    traceparent: str | None = None
    rest: Headers = []
    for header in headers:
        name, value = header
        if name == ENVELOPE_HEADER:
            # With two envelopes it is not known which one the producer meant.
            if value is None or raw is not None:
                raise _bad(f"header {name!r} is null, or stands there twice")
            raw = value
        elif name == CONTENT_TYPE_HEADER:
            content_type = value if content_type is None else content_type
        elif name == TRACEPARENT_HEADER:
            if traceparent is None:
                traceparent = read_traceparent(value)
        else:
            rest.append(header)
    if raw is None:
        raise _bad(f"no header {ENVELOPE_HEADER!r}")
    extra, dropped = _users(rest) if rest else (rest, 0)
    return ReadHeaders(
        decode_envelope(raw),
        JSON if content_type is None else _content_type(content_type),
        traceparent,
        extra,
        dropped,
    )


def content_coding(extra: Headers) -> str | None:
    """The coding of a payload, such as ``gzip``; ``None`` if it has none.

    A payload with a coding is refused: a small one could become gigabytes. The log
    compresses whole batches by itself.
    """
    for name, value in extra:
        if name.lower() == _CONTENT_ENCODING and value not in (None, b"", _IDENTITY):
            return printable(value.decode("ascii", "replace"), 40)
    return None


def successor(read: ReadHeaders, **changes: Any) -> Headers:
    """Headers for the record that follows one that was read.

    Reserved headers are written anew; the user's own and the *original* trace context
    are kept, so that every attempt links to where the job came from.

    Args:
        read: Headers of the record that was read.
        changes: Fields of the envelope that differ, by name.
    """
    return build_headers(
        msgspec.structs.replace(read.envelope, **changes),
        content_type=read.content_type,
        traceparent=read.traceparent,
        extra=read.extra,
    )


def hastened_ms(
    topic: str,
    headers: Headers,
    due_ms: int,
    *,
    wanted: Callable[[str, Lane], bool],
    now: int,
) -> int:
    """When a delayed record should be on its lane, now that hours have changed.

    A record that its log delays for longer than its envelope asks for waits until an
    execution window opens. An operator who opens the window by hand wants it now.

    Args:
        topic: The lane that it is to go to.
        headers: As written; untrusted.
        due_ms: When it would be there by itself, epoch milliseconds.
        wanted: Whether jobs of a type on a lane may start now.
        now: Epoch milliseconds.

    Returns:
        ``due_ms``, or what comes first of it and the record's own due time.
    """
    lane = parse_lane(topic)
    if lane is None or due_ms <= now:
        return due_ms
    try:
        envelope = read_headers(headers).envelope
    except WireError:
        return due_ms
    own_ms = now if envelope.due_ms is None else max(now, envelope.due_ms)
    return own_ms if own_ms < due_ms and wanted(envelope.type, lane) else due_ms


def deadline_of(headers: Headers) -> int | None:
    """The deadline of a record's job, epoch milliseconds; ``None`` without one.

    For a look at records that this process does not run: only the envelope is read.
    A record whose envelope cannot be read has no deadline. Never raises.
    """
    raw = next((value for name, value in headers if name == ENVELOPE_HEADER), None)
    if raw is None:
        return None
    try:
        return decode_envelope(raw).deadline_ms
    except WireError:
        return None


def _users(headers: Headers) -> tuple[Headers, int]:
    """The user's own headers that fit, in order, and how many do not."""
    kept: Headers = []
    room, dropped, seen = MAX_USER_BYTES, 0, set[str]()
    for header in headers:
        name, value = header
        if name in _TRACE_STATE:
            # Instrumentation appends its own; the first is that of the submission.
            if name in seen:
                continue
            seen.add(name)
        size = _size(name, value)
        if size is None or size > room or len(kept) == MAX_USER_HEADERS:
            dropped += not _is_reserved(name)
        else:
            kept.append(header)
            room -= size
    return kept, dropped


def _size(name: str, value: bytes | None) -> int | None:
    """Bytes of a header; ``None`` if it is not a user's, or does not fit by itself."""
    value_bytes = 0 if value is None else len(value)
    if value_bytes > MAX_VALUE_BYTES:
        return None
    if _IS_PLAIN(name):
        return len(name) + value_bytes
    is_fit = 0 < len(name) <= MAX_NAME_BYTES and name.isprintable()
    if not is_fit or _is_reserved(name) or len(name.encode()) > MAX_NAME_BYTES:
        return None
    return len(name.encode()) + value_bytes


def _is_reserved(name: str) -> bool:
    # Also "\u017fhifter", in which a reader that ignores case finds an "s".
    head = name[: len(ENVELOPE_HEADER)].casefold()
    return name in _RESERVED or head == ENVELOPE_HEADER


def _content_type(value: bytes) -> str:
    known = _CONTENT_TYPES.get(value)
    if known is not None:
        return known
    # A character takes at most four bytes.
    text = value[: 4 * MAX_CONTENT_TYPE_BYTES].decode("utf-8", "backslashreplace")
    return printable(text, MAX_CONTENT_TYPE_BYTES)


def read_traceparent(value: bytes | None) -> str | None:
    """A W3C trace context as text; ``None`` if it is none. Never raises."""
    if value is None or value.translate(HEX_SHAPE) != _TRACEPARENT:
        return None
    return value.decode("ascii")


def _bad(detail: str) -> DecodeError:
    return DecodeError(Reason.UNDECODABLE_ENVELOPE, detail)
