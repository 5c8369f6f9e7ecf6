"""One call of ``submit``: decided, then run here, deferred, degraded or refused.

`Submission` takes every decision and never waits for the log. Its two callers,
`shifter.api.job.BoundJob.submit` and ``submit_sync``, only carry out what it asks for:
a call of the handler, then at most one record. So the same job ends alike with an event
loop and without one.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple

from uuid_utils import uuid7

from shifter.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    RejectedError,
    Retry,
    Throttled,
)
from shifter.fleet.hours import Hours
from shifter.jobs.context import Context, identify
from shifter.jobs.registered import RegisteredJob
from shifter.jobs.request_scope import ambient, current_traceparent, nearer, within
from shifter.model.answer import (
    Answer,
    Deferred,
    Degraded,
    Quality,
    Ran,
    Shed,
    Submitted,
)
from shifter.model.lane import Priority
from shifter.model.reason import PASSING, Reason
from shifter.model.time import EpochMs, duration_ms
from shifter.policy.admission.input import DEFER, DEGRADE, RUN, SHED, Decision
from shifter.policy.delivery.job_limits import attempt_limit_ms
from shifter.produce.admission import Admission
from shifter.produce.job_spans import UNFINISHED, process_span
from shifter.produce.options import (
    CallOptions,
    CallPlan,
    as_of_now,
    at_an_opening,
    plan_call,
)
from shifter.runtime.handler import (
    check_value,
    completed,
    is_coroutine_function,
    is_unfinished,
)
from shifter.telemetry.log import LoggingAsJob
from shifter.telemetry.tracing import UNTRACED, Spans
from shifter.wire.envelope import repair_id

_ANSWERS: Final[Mapping[type, str]] = {
    Ran: "ran",
    Deferred: "deferred",
    Degraded: "degraded",
    Shed: "shed",
}

_UNTRACED: Final = contextlib.nullcontext()
_ASKED_AGAIN: Final = Decision(DEFER, Reason.RETRY_ASKED)


class LocalCall(NamedTuple):
    """One call of a handler or a fallback in this process.

    Attributes:
        function: The handler, or the fallback.
        arguments: Arguments by name, the context included.
        deadline_ms: Deadline of the job or of the request, epoch milliseconds.
        limit_ms: When the time of the call is up, epoch milliseconds.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    deadline_ms: int | None
    limit_ms: EpochMs


class Submission:
    """One call of ``submit``: `decided`, then `record` and `recorded`.

    Args:
        admission: Decides, and counts the slots of this process.
        hours: The execution windows of jobs and lanes.
        job: The job that is submitted.
        plan: The options of the call.
        payload: The arguments, written by the codec of the job.
        spans: Traces a call of the handler.

    Attributes:
        answer: What the caller is given; set when there is nothing left to do.
    """

    answer: Submitted[Any]

    def __init__(
        self,
        admission: Admission,
        hours: Hours,
        job: RegisteredJob,
        plan: CallPlan,
        payload: bytes,
        spans: Spans = UNTRACED,
    ) -> None:
        self._admission, self._hours, self._job = admission, hours, job
        self._payload, self._clock, self._spans = payload, admission.clock, spans
        self._plan = as_of_now(plan, self._clock, hours)
        self._job_id = str(uuid7()) if plan.job_id is None else plan.job_id
        self._decision = _ASKED_AGAIN
        self._thread: Future[Any] | None = None
        self._quality = Quality.FULL

    @contextlib.contextmanager
    def decided(self, *, can_run: bool) -> Generator[LocalCall | None]:
        """Decide, and hold the slot of the decision while the block runs.

        The block gets the call that it has to make, if any, and makes it by `run` or
        `run_sync`. An error that asks for another attempt, or that ends the job, ends
        the block without an error.

        Args:
            can_run: Whether the handler can be called from here.
        """
        has_fallback = self._job.cheaper is not None
        decision = self._decision = self._admission.decide(
            self._plan, can_run=can_run, has_fallback=has_fallback
        )
        try:
            yield self._decided_call()
        except UNFINISHED as error:
            self._unfinished(error)
        finally:
            if (thread := self._thread) is None:
                self._admission.let_go(decision)
            else:
                # A thread that goes on after its limit keeps its slot until it ends.
                thread.add_done_callback(lambda _: self._admission.let_go(decision))

    async def run(self, call: LocalCall) -> None:
        """Call the function: a coroutine in this loop, anything else in a thread.

        Raises:
            DeadlineExceededError: The deadline passed. The call was cancelled, in a
                thread at its next bytecode, which is not waited for.
            TimeoutError: The job's own timeout passed, with the same effect.
        """
        # asyncio comes with it, and `import shifter` does without.
        from shifter.runtime.threads import ThreadCall  # noqa: PLC0415

        as_job, limit = LoggingAsJob(self._log_fields), call.deadline_ms
        with self._noted(call), self._traced(), within(deadline_ms=limit), as_job:
            if is_coroutine_function(call.function):
                value = completed(call.function(**call.arguments))
                self._returned(await self._within_limit(call, value))
                return
            # There are as many threads as slots: no call waits for one unseen.
            threads = self._admission.threads
            running = ThreadCall(threads, call.function, call.arguments)
            self._thread = running.future
            try:
                self._returned(await self._within_limit(call, running.value()))
            finally:
                running.stop()

    def run_sync(self, call: LocalCall) -> None:
        """Call the function in the calling thread, where nothing can stop it.

        Raises:
            DeadlineExceededError: The function returned an awaitable or a future, and
                the deadline passed during the wait for it.
            TimeoutError: The job's own timeout passed then.
        """
        import asyncio  # noqa: PLC0415  # `import shifter` does without

        as_job, limit = LoggingAsJob(self._log_fields), call.deadline_ms
        with self._noted(call), self._traced(), within(deadline_ms=limit), as_job:
            value = call.function(**call.arguments)
            if is_unfinished(value):
                ending = self._within_limit(call, completed(value))
                # This thread may have a loop that runs already.
                run = contextvars.copy_context().run
                threads = self._admission.threads
                value = threads.submit(run, asyncio.run, ending).result()
            check_value(value)
            self._returned(value)

    def record(self) -> tuple[CallPlan, bytes, str, Reason | None] | None:
        """What the log has to be given after the block, as `Publisher.defer` takes it.

        That is the job itself: deferred, or, where a cheaper answer asks for a repair,
        on its LOW lane, where it waits for as long as it takes. The id of a repair
        follows from the job's, as it does in a worker.
        """
        spec, content_type = self._plan.spec, self._job.codec.content_type
        if self._decision.verdict is DEFER:
            return self._plan, self._payload, content_type, self._decision.reason
        if not (isinstance(self.answer, Degraded) and spec.repair):
            return None
        job_id = repair_id(self._job_id)
        options = CallOptions(Priority.LOW, key=self._plan.key, job_id=job_id)
        plan = plan_call(self._plan.namespace, spec, options)
        plan = plan._replace(deadline_ms=None)
        plan = at_an_opening(plan, self._clock, self._hours)
        return plan, self._payload, content_type, None

    def recording(self) -> AbstractContextManager[None]:
        """A block that writes the record and calls `recorded`."""
        if self._decision.verdict is DEFER:
            return contextlib.nullcontext()
        # A cheaper answer is valid even if the log does not accept its repair.
        return contextlib.suppress(OutcomeUnknownError)

    def recorded(self, answer: Answer) -> None:
        """Take the answer of the log."""
        if self._decision.verdict is not DEFER:
            if isinstance(self.answer, Degraded):
                self.answer.repair = answer
            return
        self.answer = answer
        if isinstance(answer, Deferred):
            answer.eta_s = self._decision.eta_s
            if answer.reason is Reason.ACCEPTED:
                answer.reason = self._decision.reason
        elif answer.reason in PASSING:
            self._admission.refused(self._plan)

    def ended(self) -> None:
        """Report the answer; a call that raised has the reason of its decision."""
        plan, reason, word = self._plan, self._decision.reason, "error"
        answer: Submitted[Any] | None = getattr(self, "answer", None)
        job_id = self._job_id
        if answer is not None:
            reason, word = answer.reason, _ANSWERS[type(answer)]
            job_id = answer.job_id
        self._admission.answered(plan.spec.name, plan.priority, word, reason)
        if (decided := self._admission.decided) is not None:
            decided(plan, job_id, word, reason)

    def _decided_call(self) -> LocalCall | None:
        decision, function = self._decision, self._job.cheaper
        if decision.verdict is SHED:
            self._shed(decision.reason, decision.retry_after_s, "")
        elif decision.verdict is RUN:
            function = self._job.function
        if function is None or decision.verdict in (SHED, DEFER):
            return None
        plan, codec = self._plan, self._job.codec
        is_cheaper, name = decision.verdict is DEGRADE, codec.context_parameter
        if name is not None and name not in inspect.signature(function).parameters:
            name = None
        if name is not None or is_cheaper:
            self._quality = self._admission.quality(plan)
        if is_cheaper and self._quality is Quality.FULL:
            self._quality = Quality.REDUCED
        # What a worker would read: the same call, wherever it runs.
        arguments = codec.decode(self._payload, codec.content_type)
        now, own_ms = self._clock.epoch_ms(), plan.deadline_ms
        own_ms = None if own_ms is None else now + own_ms
        deadline_ms = nearer(ambient().deadline_ms, own_ms)
        left_ms = attempt_limit_ms(plan.spec.timeout_ms, deadline_ms, now)
        limit_ms = EpochMs(now + left_ms)
        if name is not None:
            context = Context(
                job_id=self._job_id,
                job_type=plan.spec.name,
                attempt=1,
                fence=0,
                limit_ms=limit_ms,
                clock=self._clock,
                traceparent=current_traceparent(),
                quality=self._quality,
                dependency=self._job.dependency,
            )
            arguments = {**arguments, name: context}
        return LocalCall(function, arguments, deadline_ms, limit_ms)

    def _log_fields(self) -> dict[str, object]:
        return identify(self._job_id, self._plan.spec.name, attempt=1)

    def _traced(self) -> AbstractContextManager[None]:
        """The span of the call, where spans are recorded."""
        spans = self._spans
        if spans.tracer() is None:
            return _UNTRACED
        return process_span(
            spans, self._plan, self._decision, self._job_id, self._clock
        )

    def _noted(self, call: LocalCall) -> AbstractContextManager[None]:
        """A fallback is no evidence about the dependency that it spares."""
        plan, is_fallback = self._plan, call.function is not self._job.function
        return self._admission.views.calling(
            plan.spec, plan.priority, is_fallback=is_fallback
        )

    async def _within_limit(
        self, call: LocalCall, ending: Coroutine[Any, Any, Any]
    ) -> Any:
        import asyncio  # noqa: PLC0415  # `import shifter` does without

        limit = asyncio.timeout((call.limit_ms - self._clock.epoch_ms()) / 1_000)
        try:
            async with limit:
                return await ending
        except TimeoutError:
            if limit.expired() and call.limit_ms == call.deadline_ms:
                late_ms = max(0, self._clock.epoch_ms() - call.limit_ms)
                raise DeadlineExceededError(self._job_id, late_ms / 1_000) from None
            raise

    def _returned(self, value: Any) -> None:
        if self._decision.verdict is RUN:
            self.answer = Ran(value, job_id=self._job_id)
        else:
            reason = self._decision.reason
            self.answer = Degraded(
                value, self._quality, job_id=self._job_id, reason=reason
            )

    def _unfinished(
        self, error: Retry | Throttled | RejectedError | DeadlineExceededError
    ) -> None:
        """Put the job on its lane, or end it where its deadline has passed."""
        if isinstance(error, DeadlineExceededError):
            if self._plan.deadline_ms is None:
                raise error
            self._shed(Reason.EXPIRED, None, str(error))
            return
        wanted = error.retry_in_s if isinstance(error, RejectedError) else error.after
        after_ms = self._plan.spec.backoff_base_ms
        if wanted is not None:
            after_ms = duration_ms("after", wanted)
        self._plan = self._plan._replace(delay_ms=after_ms, due_ms=None)
        self._decision = _ASKED_AGAIN

    def _shed(self, reason: Reason, retry_after_s: float | None, detail: str) -> None:
        self.answer = Shed(
            retry_after_s, job_id=self._job_id, reason=reason, detail=detail
        )
