"""How a handler in a child process ended, as sent to its worker.

A signal, a refusal, a cancel and a deadline mean the same wherever they are raised;
everything else is a failure, of which only its facts cross the pipe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from shifter.errors import (
    DeadLetter,
    DeadlineExceededError,
    Discard,
    JobCancelledError,
    RejectedError,
    Retry,
    Throttled,
)
from shifter.fleet.calls import CallVerdict
from shifter.model.time import duration_ms
from shifter.wire.failure import ErrorFacts, describe_error
from shifter.wire.untrusted import printable
from shifter.work.attempt import RemoteError

_MAX_REASON: Final = 1_000


class IsolatedReply(msgspec.Struct, tag="reply"):
    """What a child answers.

    Attributes:
        signal: Name of the signal that was raised; empty for other exceptions.
        reason: Of a discard or a dead letter; the dependency of a refusal.
        after_ms: The wait of a retry, a throttle or a refusal; how late a deadline.
        failure: Facts of what was raised, or of its cause; ``None`` for a success.
        said: What the end says about the job's dependency: judged where the error is.
    """

    signal: str | None = None
    reason: str = ""
    after_ms: int | None = None
    failure: ErrorFacts | None = None
    said: CallVerdict | None = None


class _Signal(NamedTuple):
    """An exception that is raised again in the worker.

    Attributes:
        kind: Its type.
        facts: Its reason and its wait, from the error.
        make: The error, from reason, wait in seconds and the job's id.
    """

    kind: type[Exception]
    facts: Callable[[Any], tuple[object, Any]]
    make: Callable[[str, float | None, str], Exception]


_SIGNALS: Final[dict[str, _Signal]] = {
    "retry": _Signal(Retry, lambda e: ("", e.after), lambda _r, s, _i: Retry(s)),
    "throttled": _Signal(
        Throttled, lambda e: ("", e.after), lambda _r, s, _i: Throttled(s)
    ),
    "discard": _Signal(
        Discard, lambda e: (e.reason, None), lambda r, _s, _i: Discard(r)
    ),
    "dead_letter": _Signal(
        DeadLetter, lambda e: (e.reason, None), lambda r, _s, _i: DeadLetter(r)
    ),
    "cancelled": _Signal(
        JobCancelledError, lambda _: ("", None), lambda _r, _s, i: JobCancelledError(i)
    ),
    "late": _Signal(
        DeadlineExceededError,
        lambda e: ("", e.late_by_s),
        lambda _r, s, i: DeadlineExceededError(i, s or 0.0),
    ),
    "rejected": _Signal(
        RejectedError,
        lambda e: (e.dependency, e.retry_in_s),
        lambda r, s, _i: RejectedError(r, s or 0.0),
    ),
}


def reply_to(error: BaseException) -> IsolatedReply:
    """The reply for what left a handler; never raises."""
    for name, signal in _SIGNALS.items():
        if isinstance(error, signal.kind):
            try:
                reason, after = signal.facts(error)
                after_ms = None if after is None else duration_ms("after", after)
            except Exception as wrong:  # noqa: BLE001  # what the signal was made with
                return IsolatedReply(failure=describe_error(wrong))
            failure = describe_error(error.__cause__ or error)
            return IsolatedReply(
                name, printable(str(reason), _MAX_REASON), after_ms, failure
            )
    return IsolatedReply(failure=describe_error(error))


def raise_reply(reply: IsolatedReply, job_id: str) -> None:
    """Raise in the worker what the handler raised in the child, if it raised.

    Args:
        reply: The child's.
        job_id: Of the job that ran.

    Raises:
        RemoteError: A failure.
        Exception: A signal, as the handler raised it.
    """
    if reply.failure is None:
        return
    cause = RemoteError(reply.failure)
    if reply.signal is None:
        raise cause
    after_s = None if reply.after_ms is None else reply.after_ms / 1_000
    raise _SIGNALS[reply.signal].make(reply.reason, after_s, job_id) from cause
