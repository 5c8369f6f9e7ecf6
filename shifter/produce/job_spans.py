"""The spans of a service: of its appends, and of the handlers that it runs itself."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from shifter.errors import DeadlineExceededError, RejectedError, Retry, Throttled
from shifter.jobs.request_scope import span_parent
from shifter.model.reason import Reason
from shifter.policy.admission.input import DEGRADE, Decision
from shifter.ports import AppendAnswer, Appended, Clock, Refused
from shifter.produce.options import CallPlan
from shifter.telemetry.trace_context import current, headers_of
from shifter.telemetry.tracing import (
    PROCESS,
    SEND,
    Spans,
    Timing,
    error_facts,
    is_unsampled,
)
from shifter.wire.failure import describe_error
from shifter.wire.headers import Headers

if TYPE_CHECKING:
    from opentelemetry.trace import Span

UNFINISHED: Final = (Retry, Throttled, RejectedError, DeadlineExceededError)
"""Errors of a handler that do not fail a submission."""


class SendSpan(NamedTuple):
    """The span of an append that is under way.

    Attributes:
        headers: Headers of the records, by which their attempts link to it.
        is_recorded: Whether its end is of any use.
    """

    spans: Spans
    span: Span
    timing: Timing
    headers: Headers
    is_recorded: bool

    def end(self, answers: Sequence[AppendAnswer], now: float) -> None:
        """End it with the answers of the log, at the reading that times the append.

        Args:
            answers: One for each record.
            now: Monotonic seconds.
        """
        if not self.is_recorded:
            return
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


def begin_send(
    spans: Spans,
    plan: CallPlan,
    timing: Timing,
    *,
    job_id: str | None,
    count: int,
    reason: Reason | None,
) -> SendSpan | None:
    """Begin the span of an append; ``None`` where it is not recorded.

    Args:
        spans: Begins it.
        plan: The call.
        timing: When the append began.
        job_id: Of a single job; ``None`` for a bulk.
        count: How many jobs.
        reason: Why a call of ``submit`` deferred the job; ``None`` for other calls.
    """
    parent = span_parent()
    if is_unsampled(parent):
        return None
    attributes: dict[str, str | int | float] = {"shifter.decision": "defer"}
    if job_id is None:
        attributes["messaging.batch.message_count"] = count
    else:
        attributes["messaging.message.id"] = job_id
    if reason is not None:
        attributes["shifter.reason"] = reason.value
    shape = spans.shape(SEND, plan.lane, plan.spec.name)
    span = spans.begin(shape, attributes, timing.start_ns, context=parent)
    if span is None:
        return None
    try:
        headers = headers_of(span.get_span_context(), parent)
        is_recorded = span.is_recording()
    except Exception as error:  # noqa: BLE001  # a tracer is the user's code
        spans.failed(error)
        return None
    return SendSpan(spans, span, timing, headers, is_recorded)


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
    if not is_unsampled(parent):
        attributes = {
            "messaging.message.id": job_id,
            "shifter.decision": "degrade" if decision.verdict is DEGRADE else "run",
            "shifter.reason": decision.reason.value,
            "shifter.attempt": 1,
            "shifter.wait": 0.0,
        }
        shape = spans.shape(PROCESS, plan.lane, plan.spec.name)
        span = spans.begin(shape, attributes, timing.start_ns, context=parent)
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
