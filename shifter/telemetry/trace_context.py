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
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from shifter.wire.envelope import TRACEPARENT_HEADER
from shifter.wire.headers import MAX_VALUE_BYTES, Headers, read_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext

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


def read_trace(headers: Pairs) -> tuple[str | None, Headers]:
    """The ``traceparent`` among headers, if it is well-formed, and those beside it."""
    found = [value for name, value in headers if name == TRACEPARENT_HEADER]
    traceparent = read_traceparent(found[0]) if found else None
    return traceparent, headers_beside(headers)


def headers_of(span: SpanContext) -> Headers:
    """The headers of a job whose submission is this span; empty for an invalid span.

    The baggage is that of the current context.
    """
    traceparent = traceparent_of(span)
    if traceparent is None:
        return []
    headers: Headers = [(TRACEPARENT_HEADER, traceparent.encode())]
    if span.trace_state:
        state = span.trace_state.to_header().encode()
        if len(state) <= MAX_VALUE_BYTES:
            headers.append((TRACESTATE_HEADER, state))
    return headers + baggage_headers()


def current_headers() -> Headers:
    """The headers of a job that is submitted here; empty without a span."""
    trace = api()
    if trace is None:
        return []
    try:
        return headers_of(trace.get_current_span().get_span_context())
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return []


def baggage_headers() -> Headers:
    """The baggage of the current context, as at most one header.

    Entries at the end that do not fit into the header of a record are left out.
    """
    module = sys.modules.get("opentelemetry.baggage")
    if module is None or not module.get_all():
        return []
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    W3CBaggagePropagator().inject(carrier)
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
    from opentelemetry.context import Context  # noqa: PLC0415

    trace, context, texts = api(), Context(), _texts(beside)
    if traceparent is not None and not traceparent.startswith(_NO_VERSION):
        _, trace_id, span_id, flags = traceparent.split("-")
        state = texts.get(TRACESTATE_HEADER)
        span = trace.SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(flags, 16)),
            trace_state=None if not state else trace.TraceState.from_header([state]),
        )
        if span.is_valid:
            remote = trace.NonRecordingSpan(span)
            context = trace.set_span_in_context(remote, context)
    return _with_baggage(context, texts.get(BAGGAGE_HEADER))


def follow(traceparent: str | None, beside: Pairs = ()) -> None:
    """Let spans that begin in this context belong to a trace; ``None`` to none.

    Where OpenTelemetry is not loaded there are no spans.

    Args:
        traceparent: A well-formed one, or ``None``.
        beside: Other headers of the job; their tracestate and baggage are read.
    """
    if api() is None:
        return
    with contextlib.suppress(Exception):
        from opentelemetry.context import attach  # noqa: PLC0415

        attach(context_of(traceparent, beside))


def _texts(beside: Pairs) -> dict[str, str]:
    return {
        name: value.decode("latin-1")
        for name, value in beside
        if value is not None and name in _BESIDE
    }


def _with_baggage(context: Context, text: str | None) -> Context:
    if text is None:
        return context
    from opentelemetry.baggage.propagation import W3CBaggagePropagator  # noqa: PLC0415

    return W3CBaggagePropagator().extract({BAGGAGE_HEADER: text}, context)
