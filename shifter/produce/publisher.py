"""From a call to a durable record.

*Accepted means written*: `Deferred` is returned only after the log acknowledged the
record. A certain refusal is a `Shed` with its reason; an outcome that cannot be known
is an `OutcomeUnknownError` that carries the job id, so that the caller may submit the
same id again without a second effect.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from shifter.errors import OutcomeUnknownError
from shifter.model.answer import Answer, Deferred, Shed
from shifter.model.claim import WaitingJobs, claim_identity
from shifter.model.reason import PASSING, Reason
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.ports import (
    APPENDED,
    AppendAnswer,
    Appended,
    Clock,
    LaneLog,
    Refused,
    Unknown,
)
from shifter.produce.options import CallPlan
from shifter.produce.record_maker import Bulk, RecordMaker
from shifter.telemetry.tracing import UNTRACED, Spans

if TYPE_CHECKING:
    import asyncio

    from shifter.produce.job_events import PublisherEvents
    from shifter.produce.job_states import JobStates

_NO_ANSWERS: list[AppendAnswer] = [Unknown("the caller stopped waiting")]
_RETRY_AFTER_S = 1.0
_BULK_JOBS = 2_000
_HOUR_MS = 3_600_000


class _Kept(NamedTuple):
    """What is recorded of the jobs of a plan.

    Attributes:
        keep_ms: How long the record is kept.
        identity: The identity of their idempotency key, if they have one.
        is_recorded: Whether they are recorded at all; the log may already show them.
        is_plain: Whether they are as most are: no key, and due at once.
    """

    plan: CallPlan
    keep_ms: int
    identity: str | None
    is_recorded: bool
    is_plain: bool


_Noted: TypeAlias = "Callable[[str, Sequence[AppendAnswer], float], None]"
_Writing: TypeAlias = "tuple[Bulk, asyncio.Task[list[AppendAnswer]]]"
"""A bulk, and the log's word on it."""


class Publisher:
    """Writes jobs to a log. Safe to share between threads and tasks.

    Args:
        log: Where records become durable.
        clock: Dates the envelopes.
        timeout_s: How long a call waits for the log, > 0.
        states: Records what was accepted, and finds whether an idempotency key is done;
            ``None``: nothing is recorded, and the worker's claim finds it.
        finds_plain: Whether the log itself can find a job that lies in a lane since
            the time of its id, so that no record is needed.
        appended: Called after each append with the lane, the answer for each record,
            and the seconds that it took.
        spans: Traces each append.
        events: Records what became of jobs; closed with this. ``None`` records nothing.

    Attributes:
        clock: The same one.
        spans: The same ones.
        events: The same ones.
    """

    def __init__(  # noqa: PLR0913  # one keyword a part
        self,
        log: LaneLog,
        clock: Clock,
        *,
        timeout_s: float,
        states: JobStates | None = None,
        finds_plain: bool = False,
        appended: _Noted = lambda *_: None,
        spans: Spans = UNTRACED,
        events: PublisherEvents | None = None,
    ) -> None:
        self._log, self.clock, self._timeout_s = log, clock, timeout_s
        self._states, self._finds_plain, self.spans = states, finds_plain, spans
        self._appended, self._monotonic = appended, clock.monotonic
        self._records = RecordMaker(clock, spans)
        self.events = events
        # Looked at for every job: whether also those are recorded that are accepted.
        self._is_recording_all = events is not None and events.is_all
        self._last_kept: _Kept | None = None

    async def defer(
        self,
        plan: CallPlan,
        payload: bytes,
        content_type: str,
        reason: Reason | None = None,
    ) -> Answer:
        """Write one job, and wait until the log has answered.

        A repeat of an idempotency key that is done is not written: the answer names the
        job that had its effect.

        Args:
            plan: The call, complete for the current time.
            payload: The job's arguments, encoded.
            content_type: How they are encoded.
            reason: Why a call of ``submit`` deferred it; ``None`` for other calls.

        Raises:
            OutcomeUnknownError: The log did not answer in time.
        """
        if (asked := self._asked(plan)) is not None:
            states, identity = asked
            if (first := await states.done_by(identity)) is not None:
                return Deferred(first, plan.lane, reason=Reason.DUPLICATE)
        answers, began = _NO_ANSWERS, self._monotonic()
        job_id, record, span = self._records.one(
            plan, payload, content_type, reason, began
        )
        if record is None:
            return self._expired(plan, job_id)
        try:
            answers = await self._log.append((record,), timeout_s=self._timeout_s)
        finally:
            ended = self._monotonic()
            self._appended(plan.lane, answers, ended - began)
            if span is not None:
                span.end(answers, ended)
        return self._accepted(plan, job_id, answers[0])

    def defer_sync(
        self,
        plan: CallPlan,
        payload: bytes,
        content_type: str,
        reason: Reason | None = None,
    ) -> Answer:
        """Write one job as `defer` does, for callers without an event loop.

        Args:
            plan: The call, complete for the current time.
            payload: The job's arguments, encoded.
            content_type: How they are encoded.
            reason: Why a call of ``submit`` deferred it; ``None`` for other calls.

        Raises:
            OutcomeUnknownError: The log did not answer in time; the call blocked for so
                long.
        """
        if (asked := self._asked(plan)) is not None:
            states, identity = asked
            if (first := states.done_by_sync(identity)) is not None:
                return Deferred(first, plan.lane, reason=Reason.DUPLICATE)
        answers, began = _NO_ANSWERS, self._monotonic()
        job_id, record, span = self._records.one(
            plan, payload, content_type, reason, began
        )
        if record is None:
            return self._expired(plan, job_id)
        try:
            answers = self._log.append_sync((record,), timeout_s=self._timeout_s)
        finally:
            ended = self._monotonic()
            self._appended(plan.lane, answers, ended - began)
            if span is not None:
                span.end(answers, ended)
        return self._accepted(plan, job_id, answers[0])

    async def defer_many(
        self, plan: CallPlan, payloads: Iterable[bytes], content_type: str
    ) -> list[Answer | OutcomeUnknownError]:
        """Write many jobs of one plan; an answer for each, in order.

        Jobs are written in bulks, so that memory stays bounded by the log's own queue
        and not by the length of the input. Nothing is raised for a single job: an
        unknown outcome stands in the list as the error itself.

        Args:
            plan: The call, complete for the current time.
            payloads: The arguments of each job, encoded; read as the bulks are made.
            content_type: How they are encoded.
        """
        import asyncio  # noqa: PLC0415  # `import shifter` does without

        answers: list[Answer | OutcomeUnknownError] = []
        before: _Writing | None = None
        async with asyncio.TaskGroup() as group:
            for part in _bulks(payloads):
                bulk = self._records.bulk(plan, part, content_type)
                written = group.create_task(self._append(plan.lane, bulk))
                # One bulk is written while the next one is made.
                if before is not None:
                    answers += await self._answers(plan, before)
                before = bulk, written
            if before is not None:
                answers += await self._answers(plan, before)
        return answers

    async def _append(self, lane: str, bulk: Bulk) -> list[AppendAnswer]:
        """Write the records of a bulk, which are all of one lane; or none."""
        records = bulk.records
        answers = _NO_ANSWERS * len(records)
        try:
            answers = await self._log.append(records, timeout_s=self._timeout_s)
        finally:
            ended = self._monotonic()
            if records:
                self._appended(lane, answers, ended - bulk.began)
            if bulk.span is not None:
                bulk.span.end(answers, ended)
        return answers

    async def _answers(
        self, plan: CallPlan, writing: _Writing
    ) -> list[Answer | OutcomeUnknownError]:
        bulk, written = writing
        answers, lane = await written, plan.lane
        if not bulk.records:
            return [self._expired(plan, job_id) for job_id in bulk.ids]
        self._note_waiting(plan, bulk.ids, answers)
        found = [
            Deferred(job_id, lane)
            if answer == APPENDED
            else self._answer(plan, job_id, answer)
            for job_id, answer in zip(bulk.ids, answers, strict=True)
        ]
        if self._is_recording_all or answers.count(APPENDED) < len(answers):
            for job_id, answered in zip(bulk.ids, found, strict=True):
                self._record_event(plan, job_id, answered)
        return found

    def _expired(self, plan: CallPlan, job_id: str) -> Shed:
        """The answer to a job that is due at or after its deadline."""
        detail = "due at or after its deadline"
        answer = Shed(None, job_id=job_id, reason=Reason.EXPIRED, detail=detail)
        self._record_event(plan, job_id, answer)
        return answer

    def _record_event(
        self, plan: CallPlan, job_id: str, answer: Answer | OutcomeUnknownError
    ) -> None:
        """Record what the log answered; usual answers with ``events=all`` alone."""
        if self.events is not None:
            self.events.submitted(plan, job_id, answer)

    def is_unrecorded(self, job_id: str) -> bool:
        """Whether a job was accepted here and its state is not recorded yet."""
        return self._states is not None and self._states.holds(job_id)

    def close(self, *, timeout_s: float) -> int:
        """Flush and stop; returns how many records had no answer by then."""
        if self.events is not None:
            self.events.close()
        if self._states is not None:
            # First: they may share the file of the log.
            self._states.close()
        return self._log.close(timeout_s=timeout_s)

    def _asked(self, plan: CallPlan) -> tuple[JobStates, str] | None:
        """The states to ask whether a job's key is done, and the key's identity.

        ``None`` for a job that is due later: its key may be forgotten by then.
        """
        if plan.idempotency_key is None or self._states is None or not _is_due(plan):
            return None
        return self._states, claim_identity(plan.spec.name, "", plan.idempotency_key)

    def _accepted(self, plan: CallPlan, job_id: str, found: AppendAnswer) -> Answer:
        """The answer to one job, which is recorded as waiting where it was accepted."""
        answer = self._answer(plan, job_id, found)
        if self._is_recording_all or found != APPENDED:
            self._record_event(plan, job_id, answer)
        if isinstance(answer, OutcomeUnknownError):
            raise answer
        if self._states is not None and type(answer) is Deferred:
            kept = self._kept(plan)
            if kept.is_plain:
                self._states.add_plain(job_id)
            elif kept.is_recorded:
                jobs = WaitingJobs((job_id,), kept.keep_ms, kept.identity)
                self._states.add(jobs)
        return answer

    def _note_waiting(
        self, plan: CallPlan, ids: Sequence[str], answers: Sequence[AppendAnswer]
    ) -> None:
        """Record as waiting what the log accepted of many jobs."""
        if self._states is None or not (kept := self._kept(plan)).is_recorded:
            return
        if set(map(type, answers)) != {Appended}:
            ids = [
                job_id
                for job_id, answer in zip(ids, answers, strict=True)
                if isinstance(answer, Appended)
            ]
        if ids:
            self._states.add(WaitingJobs(ids, kept.keep_ms, kept.identity))

    def _kept(self, plan: CallPlan) -> _Kept:
        """What is recorded of jobs of a plan; the same one while it is used again."""
        last = self._last_kept
        if last is not None and last.plan is plan:
            return last
        key, identity = plan.idempotency_key, None
        if key is not None:
            identity = claim_identity(plan.spec.name, "", key)
        keep_ms, is_recorded = self._keep_ms(plan), True
        if self._finds_plain and plan.job_id is None and _is_due(plan):
            is_recorded = False
        is_plain = is_recorded and identity is None and keep_ms == WAITING_KEEP_MS
        self._last_kept = made = _Kept(plan, keep_ms, identity, is_recorded, is_plain)
        return made

    def _keep_ms(self, plan: CallPlan) -> int:
        """How long a job of this plan may wait; like ones are alike in it."""
        ahead_ms, due_ms = plan.delay_ms or 0, plan.due_ms
        if plan.opens_ms is not None:
            due_ms = plan.opens_ms
        if due_ms is not None:
            ahead_ms = max(0, due_ms - self.clock.epoch_ms())
        return WAITING_KEEP_MS + -(-ahead_ms // _HOUR_MS) * _HOUR_MS

    def _answer(
        self, plan: CallPlan, job_id: str, answer: AppendAnswer
    ) -> Answer | OutcomeUnknownError:
        if isinstance(answer, Appended):
            reason = Reason.SPOOLED if answer.is_spooled else Reason.ACCEPTED
            return Deferred(job_id, plan.lane, reason=reason)
        if isinstance(answer, Refused):
            vain = answer.reason not in PASSING
            return Shed(
                None if vain else _RETRY_AFTER_S,
                job_id=job_id,
                reason=Reason(answer.reason),
                detail=answer.detail,
            )
        return OutcomeUnknownError(job_id, self._timeout_s, answer.detail)


def _is_due(plan: CallPlan) -> bool:
    return plan.delay_ms is None and plan.due_ms is None and plan.opens_ms is None


def _bulks(payloads: Iterable[bytes]) -> Iterable[Sequence[bytes]]:
    each = iter(payloads)
    while bulk := list(itertools.islice(each, _BULK_JOBS)):
        yield bulk
