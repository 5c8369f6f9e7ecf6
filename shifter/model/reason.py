"""Why something was answered, refused or ended: one code, never parsed from text."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Reason codes of answers and dead letters; the value is the published word."""

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
    WORKER_LOST = "worker_lost"
    BLOCKED_TOO_LONG = "blocked_too_long"
    PUT_OFF_TOO_LONG = "put_off_too_long"


PASSING: Final = frozenset({Reason.QUEUE_FULL, Reason.LOG_AWAY, Reason.CLOCK_REFUSED})
"""Refusals that pass by themselves; all others need another record, or a person."""
