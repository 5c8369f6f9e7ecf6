"""The span of each attempt, which is current while its handler runs.

Spans that the handler begins, and jobs that it submits, hang under it: in the loop, in
a thread, and in a process of its own, which is given the span as its headers. The span
begins and ends by the clock readings that the metric of the duration is made of.

A job whose submission is not sampled has no span: its handler goes on in the trace of
the submission, so that whoever takes part in a trace decides alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from shifter.fleet.changes import Change
from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.policy.delivery.retry import (
    DeadLettered,
    Expired,
    Failed,
    Outcome,
    Succeeded,
)
from shifter.telemetry.trace_context import (
    api,
    context_of,
    enter_span,
    follow,
    headers_beside,
    is_sampled,
)
from shifter.telemetry.tracing import (
    MS_NS,
    PROCESS,
    Spans,
    Timing,
    add_event,
    error_facts,
)
from shifter.work.attempt import Attempt
from shifter.work.item import Item
from shifter.work.next_step import NextStep, cause_of

if TYPE_CHECKING:
    from opentelemetry.trace import Link

_FAILURES: Final = (Failed, DeadLettered, Expired)
"""Outcomes that are errors; all others are intended, or are no end."""


class JobSpans:
    """Begins and ends the spans of one worker. Owned by its event loop.

    Args:
        spans: Begins and ends them.

    Attributes:
        is_on: Whether spans were recorded when `look` was called last.
    """

    def __init__(self, spans: Spans) -> None:
        self._spans, self.is_on = spans, False
        self._offset = f"messaging.{spans.system}.offset"

    def look(self) -> None:
        """Look whether spans are recorded: once for each batch of attempts."""
        self.is_on = self._spans.tracer() is not None

    def enter(self, attempt: Attempt, *, is_apart: bool) -> None:
        """Let what follows in this task belong to an attempt, or to its submission.

        Args:
            attempt: It has begun.
            is_apart: Whether it waits for a process; then `begin` is called later.
        """
        traceparent = attempt.item.read.traceparent
        is_traced = self.is_on and (traceparent is None or is_sampled(traceparent))
        if is_apart:
            attempt.awaits_span = is_traced
        if is_apart or not (is_traced and self.begin(attempt)):
            follow(traceparent, attempt.item.read.extra)

    def begin(self, attempt: Attempt) -> bool:
        """Begin the span of an attempt, and make it current in this task.

        Returns:
            Whether there is one.
        """
        attempt.awaits_span = False
        try:
            return self._start(attempt)
        except Exception as error:  # noqa: BLE001  # a tracer is the user's code
            self._spans.failed(error)
            return False

    def end(
        self, attempt: Attempt, outcome: Outcome, step: NextStep | None, now: float
    ) -> None:
        """End the span of an attempt.

        Args:
            attempt: Ended.
            outcome: How.
            step: What follows; ``None`` for a success, and for a lost claim.
            now: Monotonic seconds, as for its metric.
        """
        if attempt.awaits_span:
            # Its process did not come up.
            self.begin(attempt)
        if (span := attempt.span) is None:
            return
        is_done = isinstance(outcome, Succeeded)
        found = {"shifter.outcome": JobState.DONE.value if is_done else "lost"}
        if step is not None:
            found["shifter.outcome"] = step.state.value
            if step.state is not JobState.DONE:
                found["shifter.cause"] = cause_of(step)
        error = None
        if isinstance(outcome, _FAILURES):
            error = attempt.error or error_facts(found.get("shifter.cause", "failed"))
        self._spans.end(span, _timing(attempt).end_ns(now), found, error)

    def circuit_changed(self, change: Change, attempts: Iterable[Attempt]) -> None:
        """Add an event to the spans of attempts that call a dependency.

        Args:
            change: Of its circuit.
            attempts: Those that run; a call that ended has noted it on its own span.
        """
        for attempt in attempts:
            job, span = attempt.item.job, attempt.span
            dependency = None if job is None else job.dependency
            if span is None or dependency is None:
                continue
            if dependency.name == change.dependency.name:
                add_event(span, change.event, change.facts)

    def _start(self, attempt: Attempt) -> bool:
        """Begin the span and make it current; false where none is begun."""
        item, spans = attempt.item, self._spans
        traceparent = item.read.traceparent
        beside = headers_beside(item.read.extra) if item.read.extra else []
        context, links = context_of(traceparent, beside), _replay_links(item)
        if traceparent is not None and not spans.tracing.is_parent:
            trace = api()
            submission = trace.get_current_span(context).get_span_context()
            if submission.is_valid:
                links.insert(0, trace.Link(submission))
            context = context_of(None, beside)
        shape = spans.shape(PROCESS, item.delivery.topic, item.envelope.type)
        span = spans.begin(
            shape,
            lambda: self._attributes(attempt),
            attempt.started_ms * MS_NS,
            context=context,
            links=links,
        )
        if span is None:
            return False
        if span.is_recording():
            attempt.span = span
        item.trace_id = span.get_span_context().trace_id
        enter_span(span, context)
        return True

    def _attributes(self, attempt: Attempt) -> dict[str, str | int | float]:
        item = attempt.item
        delivery, envelope = item.delivery, item.envelope
        found: dict[str, str | int | float] = {
            "messaging.destination.partition.id": str(delivery.partition),
            self._offset: delivery.offset,
            "messaging.message.id": envelope.id,
            "shifter.decision": "degrade" if item.is_degraded else "run",
            "shifter.reason": _reason(item).value,
            "shifter.attempt": item.attempt,
            "shifter.wait": max(0, attempt.started_ms - item.accepted_ms) / 1_000,
        }
        if envelope.replay_of is not None:
            found["shifter.replay_of"] = envelope.replay_of
        return found


def _timing(attempt: Attempt) -> Timing:
    return Timing(attempt.started_ms, attempt.started_at)


def _reason(item: Item) -> Reason:
    """Why the handler, or its fallback, is run; as for a call of ``submit``."""
    return item.degraded_by if item.is_degraded else Reason.ACCEPTED


def _replay_links(item: Item) -> list[Link]:
    """The link to the run that sent a replay, if the run was traced."""
    sent_by = item.envelope.replay_trace
    if sent_by is None:
        return []
    trace = api()
    run = trace.get_current_span(context_of(sent_by)).get_span_context()
    return [trace.Link(run, {"shifter.link": "replay"})] if run.is_valid else []
