"""The spans of a service: of its appends, and of the handlers that it runs itself."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from shifter.errors import DeadlineExceededError, RejectedError, Retry, Throttled
from shifter.jobs.request_scope import span_parent, trace_headers
from shifter.model.reason import Reason
from shifter.policy.admission.input import DEGRADE, Decision
from shifter.ports import AppendAnswer, Appended, Clock, Refused
from shifter.produce.options import CallPlan
from shifter.telemetry.trace_context import current, headers_of, headers_within
from shifter.telemetry.tracing import (
    MS_NS,
    PROCESS,
    SEND,
    Attributes,
    Spans,
    Timing,
    error_facts,
)
from shifter.wire.failure import describe_error
from shifter.wire.headers import Headers

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

UNFINISHED: Final = (Retry, Throttled, RejectedError, DeadlineExceededError)
"""Errors of a handler that do not fail a submission."""


class SendSpan(NamedTuple):
    """The span of an append that is under way."""

    spans: Spans
    span: Span
    timing: Timing

    def end(self, answers: Sequence[AppendAnswer], now: float) -> None:
        """End it with the answers of the log, at the reading that times the append.

        Args:
            answers: One for each record.
            now: Monotonic seconds.
        """
        failed = [one for one in answers if not isinstance(one, Appended)]
        reason, error = Reason.ACCEPTED.value, None
        if failed:
            first = failed[0]
            reason = first.reason if isinstance(first, Refused) else "unknown"
            error = error_facts(reason, first.detail)
        elif any(isinstance(one, Appended) and one.is_spooled for one in answers):
            reason = Reason.SPOOLED.value
        outcome = {"shifter.outcome": reason}
        self.spans.end(self.span, self.timing.end_ns(now), outcome, error)


class SentCall(NamedTuple):
    """What is appended, since when.

    Attributes:
        plan: The call.
        job_id: Of a single job; ``None`` for a bulk.
        jobs: How many.
        reason: Why a call of ``submit`` deferred the job; ``None`` for other calls.
        began_ms: When the append began, epoch milliseconds.
        began: The same, monotonic seconds.
    """

    plan: CallPlan
    job_id: str | None
    jobs: int
    reason: Reason | None
    began_ms: int
    began: float

    def attributes(self) -> Attributes:
        """Those of its span that not all of its kind have."""
        found: dict[str, str | int | float] = {"shifter.decision": "defer"}
        if self.job_id is None:
            found["messaging.batch.message_count"] = self.jobs
        else:
            found["messaging.message.id"] = self.job_id
        if self.reason is not None:
            found["shifter.reason"] = self.reason.value
        return found


def begin_send(
    spans: Spans, call: SentCall, parent: Context | None
) -> tuple[SendSpan | None, Headers]:
    """Begin the span of an append, and make the headers by which attempts link to it.

    Without a span the headers are those of the trace around the call. A span that is
    not recorded has headers too, and needs no end.

    Args:
        spans: Begins it.
        call: What is appended.
        parent: Context of the caller; ``None`` for the current one.
    """
    plan = call.plan
    shape = spans.shape(SEND, plan.lane, plan.spec.name)
    span = spans.begin(shape, call.attributes, call.began_ms * MS_NS, context=parent)
    if span is None:
        return None, trace_headers()
    try:
        headers = headers_of(span.get_span_context(), parent)
        is_recorded = span.is_recording()
    except Exception as error:  # noqa: BLE001  # a tracer is the user's code
        spans.failed(error)
        return None, trace_headers()
    if not is_recorded:
        return None, headers
    return SendSpan(spans, span, Timing(call.began_ms, call.began)), headers


@contextlib.contextmanager
def process_span(
    spans: Spans, plan: CallPlan, decision: Decision, job_id: str, clock: Clock
) -> Generator[None]:
    """Let the span of a handler that is run here be current while the block runs.

    Args:
        spans: Begins it.
        plan: The call of ``submit``.
        decision: Why the handler, or its fallback, is run.
        job_id: The job's id.
        clock: Times it.
    """
    timing = Timing(clock.epoch_ms(), clock.monotonic())
    span, parent = None, span_parent()
    # It is called where OpenTelemetry is loaded.
    if not headers_within(parent)[1]:
        attributes: Attributes = {
            "messaging.message.id": job_id,
            "shifter.decision": "degrade" if decision.verdict is DEGRADE else "run",
            "shifter.reason": decision.reason.value,
            "shifter.attempt": 1,
            "shifter.wait": 0.0,
        }
        shape = spans.shape(PROCESS, plan.lane, plan.spec.name)
        span = spans.begin(shape, lambda: attributes, timing.start_ns, context=parent)
    if span is None:
        yield
        return
    outcome, failure = "done", None
    try:
        with current(span, parent):
            yield
    except UNFINISHED:
        outcome = "waiting"
        raise
    except Exception as error:
        outcome, failure = "failed", describe_error(error)
        raise
    except BaseException:
        outcome = "cancelled"
        raise
    finally:
        end_ns = timing.end_ns(clock.monotonic())
        spans.end(span, end_ns, {"shifter.outcome": outcome}, failure)
