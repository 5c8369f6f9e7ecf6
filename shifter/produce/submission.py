"""One submission on its way: decided, then run here, deferred or refused."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from uuid_utils import uuid7

from shifter.errors import (
    DeadlineExceededError,
    OutcomeUnknownError,
    RejectedError,
    Retry,
    Throttled,
)
from shifter.fleet.hours import Hours
from shifter.jobs.registered import RegisteredJob
from shifter.jobs.request_scope import ambient, left_ms, nearer
from shifter.model.answer import (
    Answer,
    Deferred,
    Degraded,
    Quality,
    Ran,
    Shed,
    Submitted,
)
from shifter.model.lane import Lane, Priority
from shifter.model.reason import PASSING, Reason
from shifter.model.time import EpochMs, duration_ms
from shifter.policy.admission.input import Decision, Verdict
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Clock
from shifter.produce.admission import Admission
from shifter.produce.inline import Inline, prepare, run_inline, run_inline_sync
from shifter.produce.options import CallOptions, CallPlan, plan_call
from shifter.produce.publisher import Publisher
from shifter.wire.envelope import repair_id

UNFINISHED: Final = (Retry, Throttled, RejectedError, DeadlineExceededError)
"""What a handler raises that is put on its lane, or ended; see `Submission.after`."""
ASKED_AGAIN: Final = Decision(Verdict.DEFER, Reason.RETRY_ASKED)
"""What follows a handler that asks for another attempt."""


class Home(Protocol):
    """What a submission needs of the app."""

    @property
    def namespace(self) -> str:
        """First part of every lane's name."""

    @property
    def hours(self) -> Hours:
        """The execution windows of jobs and lanes."""

    @property
    def publisher(self) -> Publisher:
        """Writes jobs to the log."""

    @property
    def dependencies(self) -> Mapping[str, Dependency]:
        """The dependencies that handlers may call, by name."""

    @property
    def admission(self) -> Admission:
        """The decision what is done with a job."""


class Submission:
    """One call of ``submit``.

    Args:
        app: The app that the job belongs to.
        job: The job that is submitted.
        plan: The options of the call.
        args: As the caller gave them.
        kwargs: As the caller gave them.

    Raises:
        PayloadError: They do not fit the handler's signature.
    """

    def __init__(
        self,
        app: Home,
        job: RegisteredJob,
        plan: CallPlan,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        # Before the decision: what does not fit is refused whatever the load.
        self._payload = job.codec.encode(args, kwargs)
        self._app, self._job = app, job
        self._admission = app.admission
        self.clock: Clock = self._admission.clock
        self._plan = as_of_now(plan, self.clock, app.hours)
        self._job_id = str(uuid7()) if plan.job_id is None else plan.job_id
        self._thread: Future[Any] | None = None
        self._quality = Quality.FULL

    @contextlib.contextmanager
    def decided(self, *, can_run: bool) -> Generator[Decision]:
        """The decision, with the slot it needs while the block runs."""
        has_fallback = self._job.cheaper is not None
        admission = self._admission
        decision = admission.decide(
            self._plan, can_run=can_run, has_fallback=has_fallback
        )
        try:
            yield decision
        finally:
            if (thread := self._thread) is None:
                admission.let_go(decision)
            else:
                # A thread that goes on after its limit keeps its slot until it ends.
                thread.add_done_callback(lambda _: admission.let_go(decision))

    def _keep_slot(self, thread: Future[Any]) -> None:
        self._thread = thread

    def inline(self, decision: Decision) -> Inline | None:
        """What is called here; ``None`` if nothing is."""
        function: Callable[..., Any] | None = None
        if decision.verdict is Verdict.RUN:
            function = self._job.function
        elif decision.verdict is Verdict.DEGRADE:
            function = self._job.cheaper
        if function is None:
            return None
        codec = self._job.codec
        name = codec.context_parameter
        if name is not None and name not in inspect.signature(function).parameters:
            name = None
        is_cheaper = decision.verdict is Verdict.DEGRADE
        if name is not None or is_cheaper:
            self._quality = self._admission.quality(self._plan)
        if is_cheaper and self._quality is Quality.FULL:
            self._quality = Quality.REDUCED
        return prepare(
            function,
            # What a worker would read: the same call, wherever it runs.
            codec.decode(self._payload, codec.content_type),
            self._plan,
            self.clock,
            job_id=self._job_id,
            context_parameter=name,
            quality=self._quality,
        )

    async def run(self, inline: Inline) -> Any:
        """Call it; raises what it raises, and as of `run_inline`."""
        with self._calling(inline):
            threads = self._admission.threads
            return await run_inline(inline, self.clock, threads, self._keep_slot)

    def run_sync(self, inline: Inline) -> Any:
        """The same for a plain function, in the calling thread."""
        with self._calling(inline):
            return run_inline_sync(inline, self.clock, self._admission.threads)

    def _calling(self, inline: Inline) -> AbstractContextManager[None]:
        """A fallback is no evidence about the dependency that it spares."""
        plan, is_fallback = self._plan, inline.function is not self._job.function
        return self._admission.views.calling(
            plan.spec, plan.priority, is_fallback=is_fallback
        )

    def answer(self, decision: Decision, value: Any) -> Ran[Any] | Degraded[Any]:
        """What was called here returned."""
        if decision.verdict is Verdict.RUN:
            return Ran(value, job_id=self._job_id)
        return Degraded(
            value, self._quality, job_id=self._job_id, reason=decision.reason
        )

    async def mended(self, answer: Submitted[Any]) -> Submitted[Any]:
        """The answer; a cheaper one is followed by the job itself, where it asks so."""
        if isinstance(answer, Degraded) and self._plan.spec.repair:
            publisher = self._app.publisher
            # The answer is valid even if the log does not accept its repair.
            with contextlib.suppress(OutcomeUnknownError):
                answer.repair = await publisher.defer(*self._repair())
        return answer

    def mended_sync(self, answer: Submitted[Any]) -> Submitted[Any]:
        """The same without an event loop."""
        if isinstance(answer, Degraded) and self._plan.spec.repair:
            publisher = self._app.publisher
            with contextlib.suppress(OutcomeUnknownError):
                answer.repair = publisher.defer_sync(*self._repair())
        return answer

    def _repair(self) -> tuple[CallPlan, bytes, str]:
        """The job itself, on its LOW lane: it waits for as long as it takes.

        Its id follows from the job's, as a worker's does.
        """
        spec, codec = self._plan.spec, self._job.codec
        job_id = repair_id(self._job_id)
        options = CallOptions(Priority.LOW, key=self._plan.key, job_id=job_id)
        plan = plan_call(self._app.namespace, spec, options)
        plan = plan._replace(deadline_ms=None)
        plan = at_an_opening(plan, self.clock, self._app.hours)
        return plan, self._payload, codec.content_type

    def after(
        self, error: Retry | Throttled | RejectedError | DeadlineExceededError
    ) -> Shed | None:
        """What follows a handler that did not finish: the end; ``None``: its lane."""
        if isinstance(error, DeadlineExceededError):
            if self._plan.deadline_ms is None:
                raise error
            return self._shed(Reason.EXPIRED, None, str(error))
        wanted = error.retry_in_s if isinstance(error, RejectedError) else error.after
        after_ms = self._plan.spec.backoff_base_ms
        if wanted is not None:
            after_ms = duration_ms("after", wanted)
        self._plan = self._plan._replace(delay_ms=after_ms, due_ms=None)
        return None

    async def elsewhere(self, decision: Decision) -> Answer:
        """Defer it, or refuse it."""
        if decision.verdict is Verdict.SHED:
            return self._refusal(decision)
        publisher = self._app.publisher
        content_type = self._job.codec.content_type
        answer = await publisher.defer(self._plan, self._payload, content_type)
        return self._deferred(answer, decision)

    def elsewhere_sync(self, decision: Decision) -> Answer:
        """The same without an event loop."""
        if decision.verdict is Verdict.SHED:
            return self._refusal(decision)
        publisher = self._app.publisher
        content_type = self._job.codec.content_type
        answer = publisher.defer_sync(self._plan, self._payload, content_type)
        return self._deferred(answer, decision)

    def _deferred(self, answer: Answer, decision: Decision) -> Answer:
        if isinstance(answer, Deferred):
            answer.eta_s = decision.eta_s
            if answer.reason is Reason.ACCEPTED:
                answer.reason = decision.reason
        elif answer.reason in PASSING:
            self._admission.refused(self._plan)
        return answer

    def _refusal(self, decision: Decision) -> Shed:
        return self._shed(decision.reason, decision.retry_after_s, "")

    def _shed(self, reason: Reason, retry_after_s: float | None, detail: str) -> Shed:
        return Shed(retry_after_s, job_id=self._job_id, reason=reason, detail=detail)


def as_of_now(plan: CallPlan, clock: Clock, hours: Hours) -> CallPlan:
    """Complete the plan with what depends on the current time.

    The deadline is the smaller of its own and what is left to the request under way;
    a job whose hours have not begun when it would be due comes to its lane when they
    do.
    """
    if ambient().deadline_ms is not None:
        left = nearer(plan.deadline_ms, left_ms(clock.epoch_ms()))
        plan = plan._replace(deadline_ms=left)
    return at_an_opening(plan, clock, hours)


def at_an_opening(plan: CallPlan, clock: Clock, hours: Hours) -> CallPlan:
    """The plan, on its lane when its hours begin."""
    spec = plan.spec
    if not spec.windows and not hours.is_limiting:
        return plan
    now = clock.epoch_ms()
    own_ms = plan.due_ms if plan.delay_ms is None else now + plan.delay_ms
    due_ms = now if own_ms is None else EpochMs(max(now, own_ms))
    lane = Lane(plan.lane.split(".", 1)[0], spec.queue, plan.priority)
    opening_ms = hours.opening_ms(spec, lane, due_ms)
    return plan if opening_ms == due_ms else plan._replace(opens_ms=opening_ms)
