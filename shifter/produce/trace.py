"""The caller's W3C trace context, if there is one.

A process that never imported OpenTelemetry has no span to pass on, so this module does
not import it either: that keeps ``import shifter`` and every call cheap.
"""

from __future__ import annotations

import sys

from shifter.wire.headers import read_traceparent


def current_traceparent() -> str | None:
    """The ``traceparent`` of the current span; ``None`` without a valid one.

    A tracer that raises, or says something else than a trace id, stops no job.

    Source: W3C Trace Context, section 3.2.
    """
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
