"""W3C trace context: that of the caller, and that of the job whose handler runs.

A process that never imported OpenTelemetry has no span to pass on, so this module does
not import it either: that keeps ``import shifter`` and every call cheap. There a
handler's own calls carry the trace of its job all the same.
"""

from __future__ import annotations

import contextlib
import sys

from shifter.jobs.request_scope import ambient
from shifter.wire.headers import read_traceparent


def current_traceparent() -> str | None:
    """The ``traceparent`` of the current span, or of the job whose handler runs.

    ``None`` without a valid one. A tracer that raises, or says something else than a
    trace id, stops no job.

    Source: W3C Trace Context, section 3.2.
    """
    return _of_span() or ambient().traceparent


def follow(traceparent: str | None) -> None:
    """Let spans that begin in this context belong to a trace; ``None`` to none.

    Where OpenTelemetry is not loaded there are no spans.
    """
    if "opentelemetry.trace" not in sys.modules:
        return
    with contextlib.suppress(Exception):  # a propagator may be the user's code
        from opentelemetry.context import Context, attach  # noqa: PLC0415
        from opentelemetry.trace.propagation import tracecontext  # noqa: PLC0415

        carrier = {} if traceparent is None else {"traceparent": traceparent}
        propagator = tracecontext.TraceContextTextMapPropagator()
        attach(propagator.extract(carrier, context=Context()))


def _of_span() -> str | None:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        flags = int(context.trace_flags)
        found = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
    except Exception:  # noqa: BLE001  # a tracer is the user's code
        return None
    return read_traceparent(found.encode())
