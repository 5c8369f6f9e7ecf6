"""The span of a run over dead letters, to which the jobs that it sends link."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from shifter.deadletter.journal import Run
from shifter.ports import Clock
from shifter.telemetry.trace_context import traceparent_of
from shifter.telemetry.tracing import REPLAY, Spans, Timing
from shifter.wire.failure import describe_error


@contextlib.contextmanager
def run_span(spans: Spans, run: Run, clock: Clock) -> Generator[str | None]:
    """The span of a run while the block runs.

    Args:
        spans: Begins it.
        run: The run, or the rest of it.
        clock: Times it.

    Returns:
        Its ``traceparent``; ``None`` where it is not recorded.
    """
    timing, begun = Timing(clock.epoch_ms(), clock.monotonic()), run.begun
    attributes = {"shifter.run": begun.run, "shifter.action": begun.action}
    if spans.tracer() is None:
        yield None
        return
    shape = spans.shape(REPLAY, begun.source)
    span = spans.begin(shape, lambda: attributes, timing.start_ns)
    if span is None:
        yield None
        return
    error = None
    try:
        yield traceparent_of(span.get_span_context())
    except Exception as raised:
        error = describe_error(raised)
        raise
    finally:
        moved = {"messaging.batch.message_count": run.moved}
        spans.end(span, timing.end_ns(clock.monotonic()), moved, error)
