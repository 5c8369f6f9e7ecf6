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
    from opentelemetry.trace import Span, SpanContext

TRACESTATE_HEADER: Final = "tracestate"
BAGGAGE_HEADER: Final = "baggage"

Pairs: TypeAlias = Iterable[tuple[str, bytes | None]]
"""Names and values of headers."""

_BESIDE: Final = frozenset({TRACESTATE_HEADER, BAGGAGE_HEADER})
_NO_VERSION: Final = "ff"


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
    return bool(int(traceparent[-2:], 16) & 1)


def current_traceparent() -> str | None:
    """The ``traceparent`` of the current span; ``None`` without one."""
    trace = api()
    if trace is None:
        return None
    try:
        return traceparent_of(trace.get_current_span().get_span_context())
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return None


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
    if not found or current_traceparent() is not None:
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
    traceparent = traceparent_of(span)
    if traceparent is None:
        return []
    headers: Headers = [(TRACEPARENT_HEADER, traceparent.encode())]
    if span.trace_state:
        state = span.trace_state.to_header().encode()
        if len(state) <= MAX_VALUE_BYTES:
            headers.append((TRACESTATE_HEADER, state))
    return headers + baggage_headers(context)


def current_headers() -> Headers:
    """The headers of a job that is submitted here; empty without a span."""
    trace = api()
    if trace is None:
        return []
    try:
        span = trace.get_current_span()
        if span is trace.INVALID_SPAN:
            return []
        return headers_of(span.get_span_context())
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return []


def baggage_headers(context: Context | None = None) -> Headers:
    """The baggage of a context, by default the current one, as at most one header.

    Entries at the end that do not fit into the header of a record are left out.
    """
    module = sys.modules.get("opentelemetry.baggage")
    if module is None or not module.get_all(context):
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
    context, texts = vendor.empty, _texts(beside) if beside else {}
    if traceparent is not None and not traceparent.startswith(_NO_VERSION):
        remote = vendor.remote(traceparent, texts.get(TRACESTATE_HEADER))
        context = vendor.with_span(remote, context)
    baggage = texts.get(BAGGAGE_HEADER)
    return context if baggage is None else _with_baggage(context, baggage)


def follow(traceparent: str | None, beside: Pairs = ()) -> None:
    """Let spans that begin in this context belong to a trace; ``None`` to none.

    Where OpenTelemetry is not loaded there are no spans.

    Args:
        traceparent: A well-formed one, or ``None``.
        beside: Other headers of the job; their tracestate and baggage are read.
    """
    if api() is not None:
        with contextlib.suppress(Exception):
            _vendor().attach(context_of(traceparent, beside))


class _Vendor(NamedTuple):
    """What is used for each job of OpenTelemetry, looked up once.

    Attributes:
        empty: A context without anything.
        attach: Makes a context current.
        with_span: A context with a span.
        remote: Makes the span of a ``traceparent`` and a ``tracestate``.
    """

    empty: Context
    attach: Callable[[Context], object]
    with_span: Callable[[Span, Context], Context]
    remote: Callable[[str, str | None], Span]


@functools.cache
def _vendor() -> _Vendor:
    from opentelemetry.context import Context, attach  # noqa: PLC0415
    from opentelemetry.trace import (  # noqa: PLC0415
        INVALID_SPAN_CONTEXT,
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        TraceState,
        set_span_in_context,
    )

    class Remote(NonRecordingSpan):
        """The span of a submission; read only when something asks for its ids."""

        def __init__(self, traceparent: str, state: str | None) -> None:
            super().__init__(INVALID_SPAN_CONTEXT)
            self._given, self._state = traceparent, state

        def get_span_context(self) -> SpanContext:
            if self._given:
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

    return _Vendor(Context(), attach, set_span_in_context, Remote)


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
