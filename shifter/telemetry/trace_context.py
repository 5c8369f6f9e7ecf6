"""The trace context of a job: as its headers, and as a context of OpenTelemetry.

Headers are those of the W3C, whatever propagators the process has: ``traceparent``,
``tracestate`` and ``baggage``. A process that never imported OpenTelemetry has no span
to pass on, so this module does not import it either: that keeps ``import shifter`` and
every call cheap.

A tracer is the user's code: one that raises, or returns something else than a trace id,
stops no job.

Source: W3C Trace Context, sections 3.2 and 3.3; W3C Baggage, section 3.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from shifter.wire.envelope import TRACEPARENT_HEADER
from shifter.wire.headers import MAX_VALUE_BYTES, Headers, read_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, TraceState

TRACESTATE_HEADER: Final = "tracestate"
BAGGAGE_HEADER: Final = "baggage"

Pairs: TypeAlias = Iterable[tuple[str, bytes | None]]
"""Names and values of headers."""

_BESIDE: Final = frozenset({TRACESTATE_HEADER, BAGGAGE_HEADER})
_NO_VERSION: Final = "ff"
_ODD: Final = frozenset("13579bdf")
"""Last digits of the flags of a sampled trace."""


def api() -> Any:
    """The module ``opentelemetry.trace``; ``None`` while nothing has imported it."""
    return sys.modules.get("opentelemetry.trace")


def traceparent_of(span: SpanContext) -> str | None:
    """The ``traceparent`` of a span; ``None`` if it has no valid ids."""
    if not span.is_valid:
        return None
    flags = int(span.trace_flags)
    found = f"00-{span.trace_id:032x}-{span.span_id:016x}-{flags:02x}"
    return read_traceparent(found.encode())


def is_sampled(traceparent: str) -> bool:
    """Whether the trace of a well-formed ``traceparent`` is recorded."""
    return traceparent[-1] in _ODD


def current_traceparent() -> str | None:
    """The ``traceparent`` of the current span; ``None`` without one."""
    try:
        span = span_of()
        return None if span is None else traceparent_of(span.get_span_context())
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return None


def span_of(context: Context | None = None) -> Span | None:
    """The span of a context, by default of the current one; ``None`` without one.

    Does what `opentelemetry.trace.get_current_span` does, for a third of the time.
    """
    if api() is None:
        return None
    vendor = _vendor()
    around = vendor.current() if context is None else context
    return around.get(vendor.span_key)  # type: ignore[return-value]  # no other is kept


def is_in_span() -> bool:
    """Whether a span with valid ids is current."""
    try:
        span = span_of()
        return span is not None and span.get_span_context().is_valid
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return False


def headers_beside(extra: Pairs) -> Headers:
    """The ``tracestate`` and the ``baggage`` among the headers of a job."""
    return [header for header in extra if header[0] in _BESIDE]


def caller_trace(headers: Mapping[str, str]) -> tuple[str | None, Headers]:
    """The trace of a caller, as `read_trace`; none where a span is current already.

    Then an instrumentation of the service has read these headers.

    Args:
        headers: Of a request or a call, by lower-case name.
    """
    found = [
        (name, headers[name].encode("utf-8", "replace"))
        for name in (TRACEPARENT_HEADER, TRACESTATE_HEADER, BAGGAGE_HEADER)
        if name in headers
    ]
    if not found or is_in_span():
        return None, []
    return read_trace(found)


def read_trace(headers: Pairs) -> tuple[str | None, Headers]:
    """The ``traceparent`` among headers, if it is well-formed, and those beside it."""
    found = [value for name, value in headers if name == TRACEPARENT_HEADER]
    traceparent = read_traceparent(found[0]) if found else None
    return traceparent, headers_beside(headers)


def headers_of(span: SpanContext, context: Context | None = None) -> Headers:
    """The headers of a job whose submission is this span; empty for an invalid span.

    Args:
        span: The submission.
        context: Has the baggage; by default the current one.
    """
    vendor = _vendor()
    if type(span) is vendor.ids_type:
        # All at once, since each property is a call. The API has checked them.
        ids: Any = span
        trace_id, span_id, _, flags, states, is_valid = ids
    else:
        trace_id, span_id, flags = span.trace_id, span.span_id, span.trace_flags
        states, is_valid = span.trace_state, span.is_valid
        is_valid = is_valid and traceparent_of(span) is not None
    if not is_valid:
        return []
    # A third faster than to format each.
    digits = (trace_id << 64 | span_id).to_bytes(24, "big").hex()
    traceparent = f"00-{digits[:32]}-{digits[32:]}-{flags:02x}".encode()
    headers: Headers = [(TRACEPARENT_HEADER, traceparent)]
    if states is not vendor.no_state and states:
        state = states.to_header().encode()
        if len(state) <= MAX_VALUE_BYTES:
            headers.append((TRACESTATE_HEADER, state))
    around = vendor.current() if context is None else context
    if around.get(vendor.baggage_key):
        headers += baggage_headers(around)
    return headers


def current_headers() -> Headers:
    """The headers of a job that is submitted here; empty without a span."""
    return [] if api() is None else headers_within(None)[0]


def headers_within(context: Context | None) -> tuple[Headers, bool]:
    """The headers of a job that is submitted within a context.

    OpenTelemetry is loaded.

    Args:
        context: ``None`` for the current one.

    Returns:
        The headers, none without a span; and whether its trace is not sampled.
    """
    try:
        vendor = _vendor()
        around = vendor.current() if context is None else context
        span: Any = around.get(vendor.span_key)
        if span is None:
            return [], False
        found = span.get_span_context()
        headers = headers_of(found, around)
        # The flag's property takes three times as long.
        return headers, bool(headers) and not found.trace_flags & 1
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return [], False


def baggage_headers(context: Context | None = None) -> Headers:
    """The baggage of a context, by default the current one, as at most one header.

    Entries at the end that do not fit into the header of a record are left out.
    """
    if api() is None:
        return []
    vendor = _vendor()
    around = vendor.current() if context is None else context
    if not around.get(vendor.baggage_key):
        return []
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    W3CBaggagePropagator().inject(carrier, context)
    text = carrier.get(BAGGAGE_HEADER, "")
    if len(text) > MAX_VALUE_BYTES:
        text = text[: MAX_VALUE_BYTES + 1].rpartition(",")[0]
    return [(BAGGAGE_HEADER, text.encode())] if text else []


def context_of(traceparent: str | None, beside: Pairs = ()) -> Context:
    """A context with the submitter's span, as a remote one, and its baggage.

    Args:
        traceparent: A well-formed one; ``None`` for no span.
        beside: Other headers of the job; their tracestate and baggage are read.
    """
    vendor = _vendor()
    if traceparent is None and not beside:
        return vendor.empty
    context, texts = vendor.empty, _texts(beside)
    if traceparent is not None:
        remote = vendor.remote(traceparent, texts.get(TRACESTATE_HEADER))
        context = vendor.context({vendor.span_key: remote})
    baggage = texts.get(BAGGAGE_HEADER)
    return context if baggage is None else _with_baggage(context, baggage)


def enter_span(span: Span, around: Context) -> None:
    """Let a span be current from here to the end of this task.

    Args:
        span: Begun.
        around: Has its baggage.
    """
    vendor = _vendor()
    vendor.attach(vendor.context({**around, vendor.span_key: span}))


def follow(traceparent: str | None, beside: Pairs = ()) -> None:
    """Let spans that begin in this context belong to a trace; ``None`` to none.

    Where OpenTelemetry is not loaded there are no spans.

    Args:
        traceparent: A well-formed one, or ``None``.
        beside: Other headers of the job; their tracestate and baggage are read.
    """
    if api() is None:
        return
    try:
        vendor = _vendor()
        if beside or traceparent is None:
            context = context_of(traceparent, beside)
        else:
            # Most jobs of a traced service that are not sampled.
            context = vendor.context({vendor.span_key: vendor.remote(traceparent)})
        vendor.attach(context)
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return


class _Vendor(NamedTuple):
    """What is used for each job of OpenTelemetry, looked up once.

    Attributes:
        context: Makes a context of what it holds.
        empty: A context without anything.
        current: The current context.
        attach: Makes a context current.
        span_key: Under which a context holds its span.
        baggage_key: Under which it holds its baggage.
        remote: Makes the span of a ``traceparent`` and a ``tracestate``.
        ids_type: The API's class of the ids of a span, if it is a tuple of the trace,
            the span, whether it is remote, flags, state, and whether they are valid.
        no_state: The trace state of most of them.
    """

    context: Callable[[dict[str, object]], Context]
    empty: Context
    current: Callable[[], Context]
    attach: Callable[[Context], object]
    span_key: str
    baggage_key: str
    remote: Callable[..., Span]
    ids_type: type | None
    no_state: TraceState


@functools.cache
def _vendor() -> _Vendor:
    from opentelemetry.baggage import set_baggage  # noqa: PLC0415
    from opentelemetry.context import Context, attach, get_current  # noqa: PLC0415
    from opentelemetry.trace import (  # noqa: PLC0415
        INVALID_SPAN,
        INVALID_SPAN_CONTEXT,
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )

    class Remote(NonRecordingSpan):
        """The span of a submission; read only when something asks for its ids."""

        _context, _state = INVALID_SPAN_CONTEXT, None

        def __init__(self, traceparent: str, state: str | None = None) -> None:
            # That of the class above would only set the context.
            self._given = traceparent
            if state is not None:
                self._state = state

        def get_span_context(self) -> SpanContext:
            if self._given and not self._given.startswith(_NO_VERSION):
                _, trace_id, span_id, flags = self._given.split("-")
                self._context = SpanContext(
                    int(trace_id, 16),
                    int(span_id, 16),
                    is_remote=True,
                    trace_flags=TraceFlags(int(flags, 16)),
                    trace_state=TraceState.from_header([self._state])
                    if self._state
                    else None,
                )
                self._given = ""
            return self._context

    state = INVALID_SPAN_CONTEXT.trace_state
    shape = tuple(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(3)))
    (span_key,) = set_span_in_context(INVALID_SPAN, Context())
    (baggage_key,) = set_baggage("name", "value", Context())
    return _Vendor(
        Context,
        Context(),
        get_current,
        attach,
        span_key,
        baggage_key,
        Remote,
        SpanContext if shape == (1, 2, True, 3, state, True) else None,
        state,
    )


@contextlib.contextmanager
def current(span: Span, parent: Context | None) -> Generator[None]:
    """Let a span be current while the block runs.

    Args:
        span: Begun, and ended elsewhere.
        parent: The context that it began in; ``None`` for the current one.
    """
    from opentelemetry.context import attach, detach  # noqa: PLC0415

    token = attach(api().set_span_in_context(span, parent))
    try:
        yield
    finally:
        detach(token)


def _texts(beside: Pairs) -> dict[str, str]:
    return {
        name: value.decode("latin-1")
        for name, value in beside
        if value is not None and name in _BESIDE
    }


def _with_baggage(context: Context, text: str) -> Context:
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415

    return W3CBaggagePropagator().extract({BAGGAGE_HEADER: text}, context)
