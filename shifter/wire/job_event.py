"""Events of jobs: what happened to a job, for people who ask later.

An event never carries a payload. Processes write events in batches to the topic
``<namespace>.events``: the value of a record is one JSON object, `EventBatch`. Within
version 1 only optional fields are added, and a reader ignores fields that it does not
have.

One event describes one delivery of a job from its start to its end, so that a job that
fails costs one event. `entries` of `shifter.ops.job_history` spreads it out into what
happened when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from shifter.errors import DecodeError
from shifter.wire.untrusted import InstantMs, check_depth, printable

VERSION: Final = 1
MAX_TEXT_CHARS: Final = 500
"""Characters of a message or a reason in an event."""
MAX_NAME_CHARS: Final = 200
MAX_BATCH_BYTES: Final = 256_000
"""Of one record, about: a batch is cut once it has as many."""
MAX_READ_BYTES: Final = 4_000_000
"""A larger record is not an event batch, and is not parsed."""


class EventKind(StrEnum):
    """What happened; the value is the published word.

    Attributes:
        SUBMITTED: The log was given the job, and took or refused it.
        DECIDED: A call of submit was answered.
        WAITING: The job waits, for the cause that is named.
        STARTED: An attempt began.
        FAILED: An attempt failed.
        RETRYING: The job is put off until its next attempt.
        DEAD_LETTERED: The job became a dead letter.
        REPLAYED: A run sent the dead letter back, as a job with an id of its own.
        DISCARDED: Its handler, or a run over dead letters, gave it up.
        EXPIRED: Its deadline passed.
        CANCELLED: It was cancelled.
        DONE: Its handler returned.
        ACTION: An operator did something to the job, or to the fleet.
    """

    SUBMITTED = "submitted"
    DECIDED = "decided"
    WAITING = "waiting"
    STARTED = "started"
    FAILED = "failed"
    RETRYING = "retrying"
    DEAD_LETTERED = "dead_lettered"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DONE = "done"
    ACTION = "action"


class WaitCause(StrEnum):
    """What a job waited for; the value is the published word.

    Attributes:
        QUEUE: A free slot of a worker.
        RETRY: Its next attempt.
        CIRCUIT: The circuit of its dependency.
        BUDGET: The retry budget of its dependency.
        LIMIT: The concurrency limit of its dependency.
        RATE: The rate of its dependency.
        WINDOW: Its execution window.
        ORDER: Another job with the same ordering key.
        DEPLOY: A worker that has its type and fields.
        CLAIM: Another worker that held its claim.
    """

    QUEUE = "queue"
    RETRY = "retry"
    CIRCUIT = "circuit"
    BUDGET = "budget"
    LIMIT = "limit"
    RATE = "rate"
    WINDOW = "window"
    ORDER = "order"
    DEPLOY = "deploy"
    CLAIM = "claim"


class JobEvent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """Something that happened. All instants are epoch milliseconds, UTC.

    A text that is empty, and a number that is 0, mean not given.

    Attributes:
        at_ms: When it happened, by the clock of the process that wrote it.
        event: What happened: a word of `EventKind`; later versions may have more.
        id: The job's id; empty for an action that is about no job.
        job: The job type's name.
        queue: Queue of its lane.
        priority: Priority of its lane.
        attempt: Number of the attempt, 1-based.
        created_ms: When the job was accepted.
        started_ms: When the attempt began that the event ends.
        ran_ms: How long that attempt ran.
        waits: For how many milliseconds the job waited before the attempt, by cause.
        cause: What it waits for: a word of `WaitCause`.
        until_ms: Until when it waits, if that is known.
        answer: ``ran``, ``deferred``, ``degraded``, ``shed`` or ``error``.
        reason: A value of `shifter.Reason`, or why a handler gave its job up.
        detail: More about the reason, in one line.
        error: Class of the error.
        message: Its message, in one line.
        fingerprint: Groups failures of one kind.
        run: Name of the run over dead letters.
        replay_of: Id of the job whose dead letter the job replays.
        by: Person who did it.
        action: The operator's action, such as ``circuit open mailer``.
    """

    at_ms: InstantMs
    event: str
    id: str = ""
    job: str = ""
    queue: str = ""
    priority: str = ""
    attempt: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    created_ms: InstantMs = 0
    started_ms: InstantMs = 0
    ran_ms: InstantMs = 0
    waits: dict[str, InstantMs] = {}
    cause: str = ""
    until_ms: InstantMs = 0
    answer: str = ""
    reason: str = ""
    detail: str = ""
    error: str = ""
    message: str = ""
    fingerprint: str = ""
    run: str = ""
    replay_of: str = ""
    by: str = ""
    action: str = ""


class EventBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Events that one process wrote together: the value of one record.

    Attributes:
        v: Version of the contract: 1.
        process: The process that wrote them: host, pid and a random part.
        events: The events, in the order in which they happened there.
    """

    v: Annotated[int, Meta(ge=VERSION, le=VERSION)] = VERSION
    process: str
    events: list[JobEvent]


_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(EventBatch).decode


def encode_events(
    process: str, events: Sequence[JobEvent]
) -> Iterator[tuple[bytes, int]]:
    """Events as the values of as few records as their size allows.

    Args:
        process: The process that writes them.
        events: What is written; their texts are bounded already.

    Returns:
        The value of each record, and how many events it has.
    """
    value = _ENCODE(EventBatch(process=process, events=list(events)))
    if len(value) <= MAX_BATCH_BYTES or len(events) <= 1:
        yield value, len(events)
        return
    half = len(events) // 2
    yield from encode_events(process, events[:half])
    yield from encode_events(process, events[half:])


def decode_events(value: bytes) -> EventBatch:
    """Read the value of a record; no bytes make it raise anything else.

    Texts are as they were written: use `shown_text` before they are shown.

    Raises:
        DecodeError: It is no batch of events of this version.
    """
    if len(value) > MAX_READ_BYTES:
        raise DecodeError("events", f"{len(value)} bytes; at most {MAX_READ_BYTES}")
    check_depth(value)
    try:
        return _DECODE(value)
    except Exception as error:  # noqa: BLE001  # msgspec's errors have no common type
        raise DecodeError("events", printable(str(error), MAX_TEXT_CHARS)) from None


def shown_text(text: str) -> str:
    r"""A text of an event as it may be shown and written: printable and bounded.

    >>> shown_text("red \x1b[31m")
    'red \\x1b[31m'
    """
    return printable(text, MAX_TEXT_CHARS)
