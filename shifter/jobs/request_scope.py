"""What the request under way brings along, for everything done on its behalf.

A deadline, a draw and an arrival, in a context variable: they follow the request
through tasks and threads by themselves. A nested deadline can only be nearer: each
call, deferred job and cheaper answer takes the smaller of its own and what is left. The
draw places every job of the request at the same height within its priority, so that its
parts are let in or turned away together.

The W3C trace context and the baggage of the caller, or of the job whose handler runs,
go with them (`shifter.telemetry.trace_context`). In a process without OpenTelemetry,
which has no spans to pass on, a handler's own calls carry those of its job all the
same.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final, NamedTuple

from shifter.errors import DeadlineExceededError
from shifter.model.lane import LEVELS_PER_PRIORITY, Priority
from shifter.model.time import EpochMs
from shifter.policy.delivery.job_limits import remaining_ms
from shifter.telemetry import trace_context
from shifter.wire.envelope import TRACEPARENT_HEADER
from shifter.wire.headers import Headers

if TYPE_CHECKING:
    from opentelemetry.context import Context


class Ambient(NamedTuple):
    """What a request brings.

    Attributes:
        deadline_ms: After this instant its answer has no value; ``None`` never.
        draw: From [0, 1), its height within a priority; ``None`` for one draw a job.
        arrived_at: Monotonic seconds at which it arrived; ``None`` when not known.
        priority: How much it hurts not to serve it; calls on its behalf carry it.
        is_retry: Whether it was made before; calls on its behalf are retries too, for
            the budgets of the services that are called.
        traceparent: W3C trace context of the job whose handler runs, or of the caller.
        beside: The ``tracestate`` and the ``baggage`` that came with it, as headers.
    """

    deadline_ms: int | None = None
    draw: float | None = None
    arrived_at: float | None = None
    priority: Priority | None = None
    is_retry: bool = False
    traceparent: str | None = None
    beside: Headers = []  # noqa: RUF012  # never written

    @property
    def height(self) -> str | None:
        """The draw in whole hundredths, as callers send it; ``None`` without one."""
        return None if self.draw is None else str(int(self.draw * LEVELS_PER_PRIORITY))


TIMEOUT_HEADER: Final = "shifter-timeout"
"""Header with the time that is left to a request, as gRPC writes timeouts."""

HEIGHT_HEADER: Final = "shifter-height"
"""Header or metadata with the draw of a request."""

PREVIOUS_HEADER: Final = "shifter-previous-attempts"
"""Header or metadata with the number of earlier attempts at a request."""

NOTHING: Final = Ambient()
"""What most jobs bring; making one for each takes longer than to compare."""
_NO_TRACE: Final[tuple[str | None, Headers]] = (None, [])
_AMBIENT: Final[ContextVar[Ambient]] = ContextVar("shifter_ambient", default=NOTHING)


def ambient() -> Ambient:
    """What the request under way brought; all ``None`` outside of one."""
    return _AMBIENT.get()


def nearer(first: int | None, second: int | None) -> int | None:
    """The earlier of two instants, or the shorter of two durations; ``None`` is never.

    >>> nearer(None, 5), nearer(3, 5)
    (5, 3)
    """
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


def left_ms(now: EpochMs) -> int | None:
    """Milliseconds left to the request under way, >= 0; ``None`` without a deadline."""
    return remaining_ms(_AMBIENT.get().deadline_ms, now)


def left_to_call_ms(now: EpochMs, called: str) -> int | None:
    """Milliseconds left to a call on behalf of the request; ``None`` for no deadline.

    Args:
        now: Wall clock.
        called: What is called, for the error.

    Raises:
        DeadlineExceededError: The deadline has passed, so the call cannot help.
    """
    deadline_ms = _AMBIENT.get().deadline_ms
    if deadline_ms is not None and now >= deadline_ms:
        late_by_s = (now - deadline_ms) / 1_000
        raise DeadlineExceededError(called, late_by_s, what="call")
    return remaining_ms(deadline_ms, now)


def begin(brought: Ambient) -> None:
    """Serve a job or a call from here to the end of this task; see `within`."""
    _AMBIENT.set(brought)


def within(
    *,
    deadline_ms: int | None = None,
    draw: float | None = None,
    arrived_at: float | None = None,
    priority: Priority | None = None,
    is_retry: bool = False,
    trace: tuple[str | None, Headers] = _NO_TRACE,
) -> AbstractContextManager[Ambient]:
    """Serve a request, or a part of one, while the block runs.

    Args:
        deadline_ms: Epoch milliseconds; the nearer of it and the one around counts.
        draw: From [0, 1); by default the one around.
        arrived_at: Monotonic seconds; by default the one around.
        priority: By default the one around.
        is_retry: Whether it was made before; a part of a retry is one too.
        trace: The ``traceparent`` of its caller, and what came with it; by default
            those around.
    """
    around = _AMBIENT.get()
    if trace[0] is None:
        trace = around.traceparent, around.beside
    return _Within(
        Ambient(
            nearer(around.deadline_ms, deadline_ms),
            around.draw if draw is None else draw,
            around.arrived_at if arrived_at is None else arrived_at,
            around.priority if priority is None else priority,
            around.is_retry or is_retry,
            *trace,
        )
    )


class _Within(AbstractContextManager[Ambient]):
    """A class, since each request enters one and a generator takes twice as long."""

    __slots__ = ("_inner", "_token")

    def __init__(self, inner: Ambient) -> None:
        self._inner = inner
        self._token: Token[Ambient] | None = None

    def __enter__(self) -> Ambient:
        self._token = _AMBIENT.set(self._inner)
        return self._inner

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _AMBIENT.reset(self._token)


def current_traceparent() -> str | None:
    """The ``traceparent`` of the current span, or of the job whose handler runs.

    ``None`` without a valid one.
    """
    return trace_context.current_traceparent() or ambient().traceparent


def current_trace_id() -> str | None:
    """The trace id of `current_traceparent`, 32 hexadecimal digits."""
    return trace_id_of(current_traceparent())


def trace_id_of(traceparent: str | None) -> str | None:
    """The trace id in a valid ``traceparent``; ``None`` for ``None``."""
    return None if traceparent is None else traceparent.split("-")[1]


def span_parent() -> Context | None:
    """The context in which a span for the request begins; ``None`` for the current one.

    Without a current span, that is the context of the caller, or of the job whose
    handler runs.
    """
    around = _AMBIENT.get()
    if around.traceparent is None or trace_context.is_in_span():
        return None
    return trace_context.context_of(around.traceparent, around.beside)


def trace_headers() -> Headers:
    """The headers with which a job submitted here belongs to the trace around it.

    Those of the current span, else of the job whose handler runs; empty without both.
    """
    found = trace_context.current_headers()
    if found:
        return found
    around = ambient()
    if around.traceparent is None:
        return trace_context.baggage_headers()
    return [(TRACEPARENT_HEADER, around.traceparent.encode()), *around.beside]
