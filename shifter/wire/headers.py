"""Kafka headers: written for a job, and read from a stranger.

Three names are ours: ``shifter`` (the envelope), ``content-type`` and ``traceparent``.
Everything else is the user's and travels along untouched, retries included; only names
that begin with ``shifter`` are dropped, so that nobody can speak in our name. Kafka
clients let anything through (line breaks in names, null values, 40 kB names), so the
limits are kept here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from shifter.errors import DecodeError
from shifter.model.reason import Reason
from shifter.wire.envelope import (
    CONTENT_TYPE_HEADER,
    ENVELOPE_HEADER,
    TRACEPARENT_HEADER,
    EnvelopeV1,
    decode_envelope,
    encode_envelope,
)
from shifter.wire.text import HEX_SHAPE, printable

Headers: TypeAlias = list[tuple[str, bytes | None]]
"""Header names and values, in order, repeats allowed; as in `shifter.ports`."""

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

_CONTENT_ENCODING: Final = "content-encoding"
_IDENTITY: Final = b"identity"

MAX_HEADERS: Final = 64
MAX_VALUE_BYTES: Final = 4_096
MAX_USER_BYTES: Final = 16_384
MAX_CONTENT_TYPE_BYTES: Final = 200

_RESERVED: Final = frozenset({ENVELOPE_HEADER, CONTENT_TYPE_HEADER, TRACEPARENT_HEADER})
_CONTENT_TYPES: Final = {JSON.encode(): JSON, MSGPACK.encode(): MSGPACK}
_IS_USERS: Final = re.compile(
    r"(?!(?i:shifter)|(?:content-type|traceparent)\Z)[!-~]{1,64}"
).fullmatch
_IS_OURS: Final = re.compile(r"(?i:shifter)[!-~]{0,57}", re.ASCII).fullmatch
_TRACEPARENT: Final = b"-".join((b"0" * 2, b"0" * 32, b"0" * 16, b"0" * 2))


class ReadHeaders(NamedTuple):
    """The headers of a record, checked.

    Attributes:
        envelope: The job.
        content_type: How the payload is written; JSON where the record says nothing.
        traceparent: W3C trace context as given; ``None`` if there is none or it is
            malformed, since tracing never stops a job.
        extra: The user's own headers, in order.
    """

    envelope: EnvelopeV1
    content_type: str
    traceparent: str | None
    extra: Headers


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
        content_type: How the payload is written.
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
    envelope: EnvelopeV1, *, content_type: str, traceparent: str | None = None
) -> Callable[[str], Headers]:
    """What makes the headers of records whose envelopes differ in nothing but the id.

    Args:
        envelope: Any of the jobs.
        content_type: How the payloads are written.
        traceparent: W3C trace context, or ``None``.
    """
    (name, raw), *rest = build_headers(
        envelope, content_type=content_type, traceparent=traceparent
    )
    # The id is the first text in an envelope; nothing before it can look like one.
    before, _, after = (raw or b"").partition(envelope.id.encode())

    def make(job_id: str) -> Headers:
        return [(name, before + job_id.encode() + after), *rest]

    return make


def read_headers(headers: Headers) -> ReadHeaders:
    """Read the headers of a record; nothing of them is trusted.

    Raises:
        DecodeError: With ``Reason.UNDECODABLE_ENVELOPE``: no envelope, two of a
            reserved name, a limit exceeded, or the envelope is bad.
        UnsupportedVersionError: The envelope is of another version.
    """
    if len(headers) > MAX_HEADERS:
        raise _bad(f"{len(headers)} headers; at most {MAX_HEADERS}")
    raw: bytes | None = None
    content_type: bytes | None = None
    traceparent: bytes | None = None
    rest: Headers = []
    for header in headers:
        name, value = header
        if name == ENVELOPE_HEADER and raw is None and value is not None:
            raw = value
        elif name == CONTENT_TYPE_HEADER and content_type is None and value is not None:
            content_type = value
        elif name == TRACEPARENT_HEADER and traceparent is None and value is not None:
            traceparent = value
        else:
            rest.append(header)
    extra = _users(rest) if rest else rest
    if raw is None:
        raise _bad(f"no header {ENVELOPE_HEADER!r}")
    return ReadHeaders(
        decode_envelope(raw),
        JSON if content_type is None else _content_type(content_type),
        None if traceparent is None else _traceparent(traceparent),
        extra,
    )


def content_coding(extra: Headers) -> str | None:
    """How a payload was encoded once more, e.g. ``gzip``; ``None`` where it was not.

    No coding is read here: a payload that is compressed is none, and a small one could
    become gigabytes. The log compresses whole batches by itself.
    """
    for name, value in extra:
        if name.lower() == _CONTENT_ENCODING and value not in (None, b"", _IDENTITY):
            return printable(value.decode("ascii", "replace"), 40)
    return None


def successor(read: ReadHeaders, **changes: Any) -> Headers:
    """Headers for the record that follows one that was read.

    Reserved headers are written afresh; the user's own and the *original* trace
    context are kept, so that every attempt links to where the job came from.

    Args:
        read: What was read.
        changes: Fields of the envelope that differ, by name.
    """
    return build_headers(
        msgspec.structs.replace(read.envelope, **changes),
        content_type=read.content_type,
        traceparent=read.traceparent,
        extra=read.extra,
    )


def _users(headers: Headers) -> Headers:
    """The user's own headers among those left over, all within limits."""
    kept: Headers = []
    total = 0
    for header in headers:
        name, value = header
        size = 0 if value is None else len(value)
        if size > MAX_VALUE_BYTES:
            raise _bad(f"a header has {size} bytes; at most {MAX_VALUE_BYTES}")
        total += len(name) + size
        if _IS_USERS(name):
            kept.append(header)
        elif name in _RESERVED:
            raise _bad(f"header {name!r} is null, or stands there twice")
        elif not _IS_OURS(name):
            shown = printable(name, 80)
            raise _bad(f"header name {shown!r}; use 1-64 printable ASCII characters")
    if total > MAX_USER_BYTES:
        raise _bad(f"headers have {total} bytes; at most {MAX_USER_BYTES}")
    return kept


def _is_reserved(name: str) -> bool:
    return name in _RESERVED or name[: len(ENVELOPE_HEADER)].lower() == ENVELOPE_HEADER


def _content_type(value: bytes) -> str:
    known = _CONTENT_TYPES.get(value)
    if known is not None:
        return known
    if len(value) > MAX_CONTENT_TYPE_BYTES or not value.isascii():
        raise _bad(f"{CONTENT_TYPE_HEADER} is too long or not ASCII")
    text = value.decode("ascii")
    if not text.isprintable():
        raise _bad(f"{CONTENT_TYPE_HEADER} is {printable(text, 80)!r}")
    return text


def _traceparent(value: bytes) -> str | None:
    is_one = value.translate(HEX_SHAPE) == _TRACEPARENT
    return value.decode("ascii") if is_one else None


def _bad(detail: str) -> DecodeError:
    return DecodeError(Reason.UNDECODABLE_ENVELOPE, detail)
