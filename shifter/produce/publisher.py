"""From a call to a durable record.

*Accepted means written*: `Deferred` is returned only after the log acknowledged the
record. A certain refusal is a `Shed` with its reason; an outcome that nobody can know
is an `OutcomeUnknownError` that carries the job id, so that the caller may submit the
same id again without a second effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from uuid_utils import uuid7

from shifter.errors import OutcomeUnknownError
from shifter.model.answer import Answer, Deferred, Shed
from shifter.model.reason import Reason
from shifter.ports import AppendAnswer, Appended, Clock, LaneLog, Record, Refused
from shifter.produce.options import CallPlan
from shifter.produce.trace import current_traceparent
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers

_RETRY_AFTER_S = 1.0
_BULK = 2_000

_Bulk: TypeAlias = tuple[
    list[tuple[str, Record | None]], asyncio.Task[list[AppendAnswer]]
]
"""Job ids and records of one bulk, and the log's word on them."""


class Publisher:
    """Writes jobs to a log. Safe to share between threads and tasks.

    Args:
        log: Where records become durable.
        clock: Dates the envelopes.
        timeout_s: How long a call waits for the log, > 0.
    """

    def __init__(self, log: LaneLog, clock: Clock, *, timeout_s: float) -> None:
        self._log, self._clock, self._timeout_s = log, clock, timeout_s

    async def defer(self, plan: CallPlan, payload: bytes, content_type: str) -> Answer:
        """Write one job and wait for the log's word.

        Raises:
            OutcomeUnknownError: The log did not answer in time.
        """
        ((job_id, record),) = self._records(plan, (payload,), content_type)
        if record is None:
            return _expired(job_id)
        answers = await self._log.append((record,), timeout_s=self._timeout_s)
        return _known(self._answer(plan, job_id, answers[0]))

    def defer_sync(self, plan: CallPlan, payload: bytes, content_type: str) -> Answer:
        """The same for callers without an event loop; blocks up to the timeout."""
        ((job_id, record),) = self._records(plan, (payload,), content_type)
        if record is None:
            return _expired(job_id)
        answers = self._log.append_sync((record,), timeout_s=self._timeout_s)
        return _known(self._answer(plan, job_id, answers[0]))

    async def defer_many(
        self, plan: CallPlan, payloads: Iterable[bytes], content_type: str
    ) -> list[Answer | OutcomeUnknownError]:
        """Write many jobs of one plan; an answer for each, in order.

        Jobs are written in bulks, so that memory stays bounded by the log's own queue
        and not by the length of the input. Nothing is raised for a single job: an
        unknown outcome stands in the list as the error itself.
        """
        answers: list[Answer | OutcomeUnknownError] = []
        before: _Bulk | None = None
        async with asyncio.TaskGroup() as group:
            for bulk in _bulks(payloads):
                made = self._records(plan, bulk, content_type)
                records = [record for _, record in made if record is not None]
                told = group.create_task(
                    self._log.append(records, timeout_s=self._timeout_s)
                )
                # One bulk is written while the next one is made.
                if before is not None:
                    answers += await self._answers(plan, before)
                before = made, told
            if before is not None:
                answers += await self._answers(plan, before)
        return answers

    async def _answers(
        self, plan: CallPlan, bulk: _Bulk
    ) -> list[Answer | OutcomeUnknownError]:
        made, told = bulk
        answers = iter(await told)
        return [
            _expired(job_id)
            if record is None
            else self._answer(plan, job_id, next(answers))
            for job_id, record in made
        ]

    def close(self, *, timeout_s: float) -> int:
        """Flush and stop; returns how many records had no answer by then."""
        return self._log.close(timeout_s=timeout_s)

    def _records(
        self, plan: CallPlan, payloads: Iterable[bytes], content_type: str
    ) -> list[tuple[str, Record | None]]:
        """Job ids and records of one plan; no record where it is due too late."""
        now = self._clock.epoch_ms()
        due_ms = plan.due_ms if plan.delay_ms is None else now + plan.delay_ms
        deadline_ms = None if plan.deadline_ms is None else now + plan.deadline_ms
        is_late = (
            due_ms is not None and deadline_ms is not None and due_ms >= deadline_ms
        )
        spec, given_id = plan.spec, plan.job_id
        traceparent = current_traceparent()
        made: list[tuple[str, Record | None]] = []
        for payload in payloads:
            job_id = str(uuid7()) if given_id is None else given_id
            if is_late:
                made.append((job_id, None))
                continue
            envelope = EnvelopeV1(
                v=1,
                id=job_id,
                type=spec.name,
                queue=spec.queue,
                priority=plan.priority,
                created_ms=now,
                deadline_ms=deadline_ms,
                timeout_ms=spec.timeout_ms,
                due_ms=due_ms,
                key=plan.key,
                idempotency_key=plan.idempotency_key,
            )
            headers = build_headers(
                envelope, content_type=content_type, traceparent=traceparent
            )
            record = Record(plan.lane, payload, headers, plan.key_bytes, due_ms)
            made.append((job_id, record))
        return made

    def _answer(
        self, plan: CallPlan, job_id: str, answer: AppendAnswer
    ) -> Answer | OutcomeUnknownError:
        if isinstance(answer, Appended):
            return Deferred(job_id, plan.lane)
        if isinstance(answer, Refused):
            vain = answer.reason != Reason.QUEUE_FULL
            return Shed(
                None if vain else _RETRY_AFTER_S,
                job_id=job_id,
                reason=Reason(answer.reason),
                detail=answer.detail,
            )
        return OutcomeUnknownError(job_id, self._timeout_s, answer.detail)


def _known(answer: Answer | OutcomeUnknownError) -> Answer:
    if isinstance(answer, OutcomeUnknownError):
        raise answer
    return answer


def _expired(job_id: str) -> Shed:
    detail = "due at or after its deadline"
    return Shed(None, job_id=job_id, reason=Reason.EXPIRED, detail=detail)


def _bulks(payloads: Iterable[bytes]) -> Iterable[Sequence[bytes]]:
    bulk: list[bytes] = []
    for payload in payloads:
        bulk.append(payload)
        if len(bulk) == _BULK:
            yield bulk
            bulk = []
    if bulk:
        yield bulk
