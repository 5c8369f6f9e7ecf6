"""Envelope v1: what travels beside a payload, in one header called ``shifter``.

Compact JSON, readable in any Kafka tool and writable from any language: ``v``, ``id``
and ``type`` are enough. It is attacker-controlled until `decode_envelope` has let it
through: size and nesting are measured before anything is parsed, every field is
bounded, unknown fields are ignored, of a repeated field the last one counts.

Within version 1 only optional fields are added; nothing is renamed or given another
type. What depends on the time of reading (a due time far in the future) is the
reader's to check, with `check_bounds`.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.job import canonical_id
from shifter.model.lane import MAX_LEVEL, Priority
from shifter.model.reason import Reason
from shifter.model.time import MAX_DURATION_MS
from shifter.wire.untrusted import HEX_SHAPE, InstantMs, check_depth, printable

VERSION: Final = 1
ENVELOPE_HEADER: Final = "shifter"
CONTENT_TYPE_HEADER: Final = "content-type"
TRACEPARENT_HEADER: Final = "traceparent"

MAX_ENVELOPE_BYTES: Final = 8_192
MAX_DUE_AHEAD_MS: Final = 30 * 86_400_000
MAX_TURNS: Final = 100_000
"""How often a job is handed over, at most."""

MAX_REPLAYS: Final = 1_000
"""How far the replays of a job are counted."""

SKEW_MS: Final = 86_400_000
"""A day: error of a producer's clock beyond which its due time is refused."""

AHEAD_MS: Final = 60_000
"""How far a producer's clock may be ahead before its instants are not used."""

_UUID: Final = "^([0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32})$"
_TRACEPARENT: Final = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"
_MAX_DETAIL: Final = 300

Uuid = Annotated[
    str, Meta(min_length=32, max_length=36, extra_json_schema={"pattern": _UUID})
]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
Traceparent = Annotated[
    str,
    Meta(max_length=55, pattern=_TRACEPARENT),
]


class EnvelopeV1(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True
):
    """One job as it travels. All instants are epoch milliseconds, UTC.

    Texts hold printable characters only. ``None`` means not given; a reader fills in
    the job type's own setting.

    Attributes:
        v: Version of the contract: 1.
        id: The job's id, a UUID; any version, kept in lower case with hyphens.
        type: The job type's registered name; 1-200 characters.
        queue: Queue it was meant for; 1-64 characters.
        priority: How much it hurts not to serve it.
        level: Finer than the priority, for shedding; 0-399.
        created_ms: When it was handed over first.
        deadline_ms: From this instant on it is not started any more.
        timeout_ms: Longest one attempt may take, > 0; shortens what the job declares.
        due_ms: Not started before this instant.
        attempt: What it will be charged as, 1-based; 1-1000.
        turn: Hand-over number, 1-based, counts those too that are not charged;
            1-100000.
        key: Jobs of one key and lane run in order; 1-255 characters.
        idempotency_key: Jobs of one type and key take effect once; 1-255 characters.
        origin: Who handed it over, e.g. a service's name; 1-255 characters.
        replay_of: Id of the job whose dead letter this one replays.
        replay_trace: ``traceparent`` of the run that replayed it, if it was traced.
        replays: How often it was replayed, under all its ids; 0-1000.
        first_failed_ms: When an attempt of it failed for the first time.
        misfit_since_ms: When a worker first read it that does not know its type, or
            its fields; it waits for one that does.
        put_off_since_ms: Since when it comes again and again without being charged.
        was_run: Whether a run of it ended without a success, charged or not: each
            later run is an extra one, to be paid for by a retry budget.
    """

    v: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    id: Uuid
    type: Annotated[str, Meta(min_length=1, max_length=200)]
    queue: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    priority: Priority | None = None
    level: Annotated[int, Meta(ge=0, le=MAX_LEVEL)] | None = None
    created_ms: InstantMs | None = None
    deadline_ms: InstantMs | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_DURATION_MS)] | None = None
    due_ms: InstantMs | None = None
    attempt: Annotated[int, Meta(ge=1, le=1_000)] = 1
    turn: Annotated[int, Meta(ge=1, le=MAX_TURNS)] = 1
    key: Key | None = None
    idempotency_key: Key | None = None
    origin: Key | None = None
    replay_of: Uuid | None = None
    replay_trace: Traceparent | None = None
    replays: Annotated[int, Meta(ge=0, le=MAX_REPLAYS)] = 0
    first_failed_ms: InstantMs | None = None
    misfit_since_ms: InstantMs | None = None
    put_off_since_ms: InstantMs | None = None
    was_run: bool = False


class _Version(msgspec.Struct, gc=False):
    v: Annotated[int, Meta(ge=0, le=2**53)]


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(EnvelopeV1)
_VERSION_DECODER: Final = msgspec.json.Decoder(_Version)

_TEXTS: Final = ("type", "queue", "key", "idempotency_key", "origin")

_UNDECODABLE: Final = Reason.UNDECODABLE_ENVELOPE
"""Looked up once: Python 3.11 takes 70 ns for a member of an enumeration."""

_BACKSLASH: Final = 0x5C
_DELETE: Final = 0x7F
_CANONICAL: Final = b"00000000-0000-0000-0000-000000000000"


def encode_envelope(envelope: EnvelopeV1) -> bytes:
    """Compact JSON of at most 8 KiB; fields with their default are left out."""
    return _ENCODER.encode(envelope)


def decode_envelope(raw: bytes) -> EnvelopeV1:
    """Read an envelope; no bytes make it raise anything but what is listed.

    Raises:
        DecodeError: Not an envelope, with ``Reason.UNDECODABLE_ENVELOPE``.
        UnsupportedVersionError: An envelope of another version.
    """
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise _bad(f"{len(raw)} bytes; at most {MAX_ENVELOPE_BYTES}")
    check_depth(raw, reason=_UNDECODABLE)
    try:
        envelope = _DECODER.decode(raw)
    except Exception as error:  # noqa: BLE001  # msgspec's errors have no common type
        raise _undecodable(raw, error) from None
    # Almost all ids are canonical already, and this check costs least.
    if (
        envelope.id.encode().translate(HEX_SHAPE) != _CANONICAL
        or envelope.replay_of is not None
    ):
        envelope = _with_canonical_ids(envelope)
    # No escape, no DEL, all ASCII: then JSON itself kept unprintable characters out.
    if not raw.isascii() or _BACKSLASH in raw or _DELETE in raw:
        _check_texts(envelope)
    return envelope


def check_bounds(envelope: EnvelopeV1, now_ms: int) -> None:
    """Return if the envelope's instants are within bounds at ``now_ms``.

    A forged due time must stall nothing, so one further ahead than the longest delay is
    refused. A due time in the past means at once, and a deadline in the past ends the
    job as expired: neither is an error.

    Args:
        envelope: As decoded.
        now_ms: The reader's clock, epoch milliseconds.

    Raises:
        DecodeError: Due more than 30 days (and a day of skew) ahead, or a deadline
            more than 366 days (and a day) ahead.
    """
    due_ms, deadline_ms = envelope.due_ms, envelope.deadline_ms
    if due_ms is not None and due_ms > now_ms + MAX_DUE_AHEAD_MS + SKEW_MS:
        raise _bad(f"due_ms is {due_ms - now_ms} ms ahead; at most 30 days")
    if deadline_ms is not None and deadline_ms > now_ms + MAX_DURATION_MS + SKEW_MS:
        raise _bad(f"deadline_ms is {deadline_ms - now_ms} ms ahead; at most 366 days")


def by_our_clock(envelope: EnvelopeV1, now_ms: int) -> EnvelopeV1:
    """The envelope with a deadline by this process's clock.

    If an envelope was created more than a minute after now, its producer's clock is
    ahead, and its deadline is as far off. Then the duration between the two counts from
    now. A clock that is behind makes a job look older, which is the safe side.

    Args:
        envelope: As decoded.
        now_ms: The reader's clock, epoch milliseconds.

    Source: userver's deadline propagation, which carries an instant and a duration and
    uses the instant within 60 s.
    """
    created_ms, deadline_ms = envelope.created_ms, envelope.deadline_ms
    if created_ms is None or created_ms <= now_ms + AHEAD_MS:
        return envelope
    if deadline_ms is not None:
        deadline_ms = now_ms + max(0, deadline_ms - created_ms)
    return msgspec.structs.replace(envelope, created_ms=now_ms, deadline_ms=deadline_ms)


def _check_texts(envelope: EnvelopeV1) -> None:
    for field in _TEXTS:
        text: str | None = getattr(envelope, field)
        if text is not None and not text.isprintable():
            raise _bad(f"{field} has unprintable characters: {printable(text, 200)!r}")


def _with_canonical_ids(envelope: EnvelopeV1) -> EnvelopeV1:
    job_id, replay_of = _canonical_uuid("id", envelope.id), envelope.replay_of
    if replay_of is not None:
        replay_of = _canonical_uuid("replay_of", replay_of)
    return msgspec.structs.replace(envelope, id=job_id, replay_of=replay_of)


def _canonical_uuid(field: str, text: str) -> str:
    job_id = canonical_id(text)
    if job_id is None:
        raise _bad(f"{field} is {printable(text, 40)!r}; use a UUID")
    return job_id


def _undecodable(raw: bytes, error: Exception) -> DecodeError | UnsupportedVersionError:
    """The error for ``raw``; another version may have other fields."""
    if not raw:
        return _bad("empty")
    try:
        version = _VERSION_DECODER.decode(raw).v
    except Exception:  # noqa: BLE001  # not even a version: the first error stands
        version = VERSION
    if version != VERSION:
        return UnsupportedVersionError(version, VERSION)
    return _bad(str(error) or type(error).__name__)


def _bad(detail: str) -> DecodeError:
    return DecodeError(_UNDECODABLE, printable(detail, _MAX_DETAIL))


def repair_id(job_id: str) -> str:
    """The id of the job that repairs a degraded answer.

    It is derived from the id of the job that was degraded, so that an answer that was
    given twice is repaired once.

    >>> repair_id("0192f3c4-aaaa-7000-8000-000000000000")
    'e21be728-4a46-570b-be89-e24e0ff8601b'
    """
    import uuid  # noqa: PLC0415  # `import shifter` must not pay for it

    return str(uuid.uuid5(uuid.UUID(job_id), "repair"))
