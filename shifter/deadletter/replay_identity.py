"""The envelope of a job inside its dead letter, and the next incarnation's.

A replay is a new incarnation of a job: a new id, derived from the run and the job, so
that the same record replayed twice in one run is one job to the claim store; and
``replay_of``, the id before. Its effects keep the idempotency key they had.
"""

from __future__ import annotations

import hashlib
from string import hexdigits
from typing import Any, Final

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.wire.envelope import ENVELOPE_HEADER, MAX_REPLAYS
from shifter.wire.headers import Headers, ReadHeaders, read_headers

REPLAYS_HEADER: Final = "shifter-replays"
"""Header: how often a record that is no job was replayed."""

REPLAY_ID_HEADER: Final = "shifter-replay-id"
"""Header: the replay that brought a record that is no job."""

_MARK: Final = b'"replay'
_STORY: Final = "shifter-"
_VARIANT: Final = {
    digit: "89ab"[place % 4] for place, digit in enumerate(hexdigits[:16])
}


def replays_of(headers: Headers) -> int:
    """How often a dead letter was replayed, by its own headers; never raises."""
    for name, value in headers:
        if value is None:
            continue
        if name == ENVELOPE_HEADER and _MARK in value:
            read = read_job(headers)
            return 0 if read is None else read.envelope.replays
        if name == REPLAYS_HEADER and value.isdigit() and len(value) <= 4:
            return min(int(value), MAX_REPLAYS)
    return 0


def read_job(headers: Headers) -> ReadHeaders | None:
    """The job in a record; ``None`` if it is none, or cannot be read."""
    # The headers of the dead letter are no part of the job, and most of the headers.
    own = [header for header in headers if not header[0].startswith(_STORY)]
    try:
        return read_headers(own)
    except (DecodeError, UnsupportedVersionError):
        return None


def replay_id(run: str, record: str) -> str:
    """The id of the incarnation that a run makes of a record.

    >>> import uuid

    Args:
        run: The run's name.
        record: The job's id, or the record's place.

    >>> replay_id("a", "b") == replay_id("a", "b") != replay_id("b", "a")
    True
    >>> uuid.UUID(replay_id("a", "b")).version, uuid.UUID(replay_id("a", "b")).variant
    (5, 'specified in RFC 4122')
    """
    text = f"{run}\n{record}".encode()
    digits = hashlib.blake2b(text, digest_size=16, person=b"shifter-replay").hexdigest()
    # Like RFC 9562's name-based UUIDs, with a hash that is not broken; by hand, since
    # the library takes three times as long.
    variant = _VARIANT[digits[16]]
    return (
        f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}"
        f"-{digits[20:]}"
    )


def incarnation(
    read: ReadHeaders, job_id: str, *, attempt: int, deadline_ms: int | None
) -> dict[str, Any]:
    """Fields of the envelope that differ in a replay.

    Args:
        read: The job as it was.
        job_id: Id of the replay.
        attempt: Attempt that the replay is charged as, >= 1.
        deadline_ms: Deadline of the replay; ``None`` for none.
    """
    before = read.envelope
    key = before.idempotency_key
    return {
        "id": job_id,
        "replay_of": before.id,
        "replays": min(before.replays + 1, MAX_REPLAYS),
        # The handler must send the same idempotency key as the job before.
        "idempotency_key": before.id if key is None else key,
        "attempt": attempt,
        "turn": 1,
        "due_ms": None,
        "misfit_since_ms": None,
        "put_off_since_ms": None,
        "was_run": False,
        "deadline_ms": deadline_ms,
    }
