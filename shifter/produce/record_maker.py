"""From a call to the records of its jobs, and the span of their append."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from uuid_utils import uuid7

from shifter.jobs.request_scope import span_parent, trace_headers
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.ports import Clock, Record
from shifter.produce.job_spans import SendSpan, SentCall, begin_send
from shifter.produce.options import CallPlan, envelope_of
from shifter.telemetry.trace_context import headers_within
from shifter.telemetry.tracing import Spans
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import Headers, headers_by_id


class Bulk(NamedTuple):
    """Jobs of one plan; no records where they are due at or after their deadline.

    Attributes:
        began: When it was begun to be made, monotonic seconds.
        span: Of their append, if it is traced.
    """

    ids: list[str]
    records: list[Record]
    began: float
    span: SendSpan | None


class _Stamp(NamedTuple):
    """What all jobs of a plan made in one millisecond have in common.

    Attributes:
        headers_of: Their headers, by the id and the headers of the trace; ``None``
            where they are late already.
    """

    plan: CallPlan
    content_type: str
    made_ms: EpochMs
    due_ms: int | None
    headers_of: Callable[[str, Headers], Headers] | None


class RecordMaker:
    """Makes records. Safe to share between threads and tasks.

    Args:
        clock: Dates the envelopes.
        spans: Traces the appends.
    """

    def __init__(self, clock: Clock, spans: Spans) -> None:
        self._clock, self._spans = clock, spans
        self._last: _Stamp | None = None

    def one(
        self,
        plan: CallPlan,
        payload: bytes,
        content_type: str,
        reason: Reason | None,
        began: float,
    ) -> tuple[str, Record | None, SendSpan | None]:
        """A job id, its record, and the span of its append, if it is traced.

        There is no record where the job is due at or after its deadline.

        Args:
            plan: The call, complete for the current time.
            payload: The job's arguments, encoded.
            content_type: How they are encoded.
            reason: Why a call of ``submit`` deferred it; ``None`` for other calls.
            began: When its append began, monotonic seconds.
        """
        job_id = str(uuid7()) if plan.job_id is None else plan.job_id
        stamp = self._stamp(plan, content_type, job_id)
        if stamp.headers_of is None:
            return job_id, None, None
        span, trace = self._traced(plan, began, job_id, reason=reason)
        headers = stamp.headers_of(job_id, trace)
        record = Record(plan.lane, payload, headers, plan.key_bytes, stamp.due_ms)
        return job_id, record, span

    def _traced(
        self,
        plan: CallPlan,
        began: float,
        job_id: str | None,
        *,
        count: int = 1,
        reason: Reason | None = None,
    ) -> tuple[SendSpan | None, Headers]:
        """The span of an append that began just now, and the headers of its trace."""
        if self._spans.tracer() is None:
            return None, trace_headers()
        parent = span_parent()
        headers, is_unsampled = headers_within(parent)
        if is_unsampled:
            return None, headers
        began_ms = self._clock.epoch_ms()
        call = SentCall(plan, job_id, count, reason, began_ms, began)
        return begin_send(self._spans, call, parent)

    def bulk(
        self, plan: CallPlan, payloads: Sequence[bytes], content_type: str
    ) -> Bulk:
        """Jobs of one plan, their records, and the span of their append.

        Args:
            plan: The call, complete for the current time.
            payloads: The arguments of each job, encoded.
            content_type: How they are encoded.
        """
        given_id, began = plan.job_id, self._clock.monotonic()
        ids = [str(uuid7()) if given_id is None else given_id for _ in payloads]
        stamp = self._stamp(plan, content_type, ids[0])
        headers_of = stamp.headers_of
        if headers_of is None:
            return Bulk(ids, [], began, None)
        span, trace = self._traced(plan, began, None, count=len(ids))
        lane, key, due_ms = plan.lane, plan.key_bytes, stamp.due_ms
        records = [
            Record(lane, payload, headers_of(job_id, trace), key, due_ms)
            for job_id, payload in zip(ids, payloads, strict=True)
        ]
        return Bulk(ids, records, began, span)

    def _stamp(self, plan: CallPlan, content_type: str, job_id: str) -> _Stamp:
        """The last one, where nothing but the job's id is another."""
        now = self._clock.epoch_ms()
        last = self._last
        if (
            last is not None
            and last.plan is plan
            and last.made_ms == now
            and last.content_type == content_type
        ):
            return last
        envelope = envelope_of(plan, job_id, now)
        due_ms = plan.opens_ms if plan.opens_ms is not None else envelope.due_ms
        headers_of = None
        if not _is_late(envelope, due_ms):
            headers_of = headers_by_id(envelope, content_type=content_type)
        # One assignment: another thread sees the one before or this one.
        self._last = made = _Stamp(plan, content_type, now, due_ms, headers_of)
        return made


def _is_late(envelope: EnvelopeV1, due_ms: int | None) -> bool:
    deadline_ms = envelope.deadline_ms
    if deadline_ms is None or envelope.created_ms is None:
        return False
    starts_ms = envelope.created_ms if due_ms is None else due_ms
    return starts_ms >= deadline_ms
