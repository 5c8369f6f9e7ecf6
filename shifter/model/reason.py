"""Why something was answered, refused or ended: one code, never parsed from text."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Reason codes of answers and dead letters; the value is the published word.

    Attributes:
        ACCEPTED: The log acknowledged the job's record.
        SPOOLED: The log did not answer in time; the job is synced to the local spool.
        QUEUE_FULL: The client's own buffer, or the embedded file, takes no more now.
        SPOOL_FULL: The spool has no room for a job of this priority.
        TOO_LARGE: The payload, or the record, is larger than the log accepts.
        EXPIRED: The deadline has passed, or would pass before the job may start.
        REFUSED_BY_LOG: The log refuses the record for good: a missing right or topic.
        LOG_AWAY: The log does not answer.
        CLOCK_REFUSED: The broker refuses the date of the record.
        CLOSED: The app, or its log, is closed.
        DUPLICATE: A job with the same idempotency key has taken effect already.
        NOT_INLINE: The job may not run in the process that submits it.
        NOT_DUE: The job's delay is not over.
        WINDOW_CLOSED: No window of the job, or of its lane, is open.
        CIRCUIT_OPEN: The circuit of a dependency of the job is open.
        BUDGET_EXHAUSTED: The retry budget has no retry left.
        LIMIT_REACHED: No slot is free here, or at a dependency of the job.
        RATE_LIMITED: A dependency of the job is called as often as its rate allows.
        OVERLOADED: The process sheds jobs of this level, or the lane is too long.
        QUALITY_REDUCED: The fleet's quality is lowered and the job has a fallback.
        RETRY_ASKED: The handler ran in the submitting process and asked for a retry.
        UNDECODABLE_ENVELOPE: The record has no envelope, or one that cannot be read.
        UNDECODABLE_PAYLOAD: The payload does not fit the types of the handler.
        UNSUPPORTED_VERSION: The envelope has a version that this release cannot read.
        UNKNOWN_JOB: No job of the app has the type that the record names.
        WRONG_LANE: The record lies in a lane that is not the one its envelope names.
        ATTEMPTS_EXHAUSTED: The last allowed attempt failed.
        DEAD_LETTERED: The handler raised `DeadLetter`.
        NOT_RETRIED: The attempt failed in a way that the job's options do not retry.
        WORKER_LOST: The job's workers died too often while they ran it.
        BLOCKED_TOO_LONG: The job held up its key for longer than ``max_block``.
        PUT_OFF_TOO_LONG: The job was put off, uncharged, too often or for too long.
    """

    # Of the word that it equals; Enum's own is a call into Python, 0.2 us a look-up.
    __hash__ = str.__hash__

    # answers of defer
    ACCEPTED = "accepted"
    SPOOLED = "spooled"
    QUEUE_FULL = "queue_full"
    SPOOL_FULL = "spool_full"
    TOO_LARGE = "too_large"
    EXPIRED = "expired"
    REFUSED_BY_LOG = "refused_by_log"
    LOG_AWAY = "log_away"
    CLOCK_REFUSED = "clock_refused"
    CLOSED = "closed"
    DUPLICATE = "duplicate"

    # answers of submit: why a job was not run here and now
    NOT_INLINE = "not_inline"
    NOT_DUE = "not_due"
    WINDOW_CLOSED = "window_closed"
    CIRCUIT_OPEN = "circuit_open"
    BUDGET_EXHAUSTED = "budget_exhausted"
    LIMIT_REACHED = "limit_reached"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    QUALITY_REDUCED = "quality_reduced"
    RETRY_ASKED = "retry_asked"

    # dead letters: the record itself is bad
    UNDECODABLE_ENVELOPE = "undecodable_envelope"
    UNDECODABLE_PAYLOAD = "undecodable_payload"
    UNSUPPORTED_VERSION = "unsupported_version"
    UNKNOWN_JOB = "unknown_job"
    WRONG_LANE = "wrong_lane"
    # dead letters: the job did not succeed
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DEAD_LETTERED = "dead_lettered_by_handler"
    NOT_RETRIED = "not_retried"
    WORKER_LOST = "worker_lost"
    BLOCKED_TOO_LONG = "blocked_too_long"
    PUT_OFF_TOO_LONG = "put_off_too_long"


PASSING: Final = frozenset({Reason.QUEUE_FULL, Reason.LOG_AWAY, Reason.CLOCK_REFUSED})
"""Refusals that pass by themselves; all others need another record, or a person."""
