"""The caller's W3C trace context, if there is one.

A process that never imported OpenTelemetry has no span to pass on, so this module does
not import it either: that keeps ``import shifter`` and every call cheap.
"""

from __future__ import annotations

import sys


def current_traceparent() -> str | None:
    """The ``traceparent`` of the current span; ``None`` without a valid one.

    Source: W3C Trace Context, section 3.2.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    flags = int(context.trace_flags)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
