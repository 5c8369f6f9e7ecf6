"""The one decision, in front of an ASGI service.

A request of a *job route* is a job: it is submitted, and its answer is the response.
Any other request asks for a slot of this process; there is no lane for it, so it is
served or refused. Health checks pass: a busy process is not a dead one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from shifter.ambient import within
from shifter.app import Shifter
from shifter.asgi.request import (
    Request,
    read_draw,
    read_is_retry,
    read_key,
    read_left_ms,
    read_priority,
    read_request,
    wants_async,
)
from shifter.asgi.response import Response, Send, of_answer, problem, refusal
from shifter.asgi.status import job_status
from shifter.errors import DecodeError, OutcomeUnknownError, PayloadError
from shifter.job import BoundJob, Job
from shifter.model.job import JobSpec
from shifter.model.priority import Priority
from shifter.model.reason import Reason
from shifter.policy.case import Verdict
from shifter.policy.prioritizer import stable_draw
from shifter.produce.options import CallOptions, CallPlan, plan_call

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Service: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

_HEALTH: Final = ("/health", "/healthz", "/livez", "/readyz")
_HOUR_MS: Final = 3_600_000


class AdmissionMiddleware:
    """Runs, defers, degrades or refuses requests.

    Args:
        service: The ASGI service behind it.
        app: Its admission decides; its slots are the setting ``concurrency``.
        jobs: ``"POST /reports"`` to a job whose arguments are the request's body.
        classify: The priority of a request; ``None`` where it does not know, which
            means the job's own, or ``NORMAL``.
        trusts_priority: Whether callers are yours: then the ``Priority`` header may
            make a request more urgent (it may always make it less so), and
            ``shifter-height`` counts.
        user: Who asks, so that all requests of a user are let in or refused together.
        health: Paths that are never refused.
        status_path: Where states of jobs are served.
        result: From a job's id to the place of its result, if there is one.

    Attributes:
        ignored: How often which header was left out, or cut to its bounds.
    """

    def __init__(  # noqa: PLR0913  # one keyword an option
        self,
        service: Service,
        app: Shifter,
        *,
        jobs: Mapping[str, Job[..., Any]] | None = None,
        classify: Callable[[Request], Priority | None] | None = None,
        trusts_priority: bool = False,
        user: Callable[[Request], str | None] | None = None,
        health: Iterable[str] = _HEALTH,
        status_path: str = "/jobs",
        result: Callable[[str], str] | None = None,
    ) -> None:
        self._service, self._app = service, app
        self._jobs, self._classify, self._user = jobs or {}, classify, user
        self._health, self._status_path = frozenset(health), status_path.rstrip("/")
        self._result, self._trusts_priority = result, trusts_priority
        self.ignored: Counter[str] = Counter()
        spec = JobSpec(name="http", queue="http")
        self._plans = {
            priority: plan_call(app.namespace, spec, CallOptions(priority=priority))
            for priority in Priority
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection; what is not HTTP passes."""
        if scope["type"] != "http" or scope["path"] in self._health:
            await self._service(scope, receive, send)
            return
        request = read_request(scope, self.ignored)
        job = self._jobs.get(f"{request.method} {request.path}")
        usual = Priority.NORMAL if job is None else job.spec.priority
        priority = self._priority(request, usual)
        user = None if self._user is None else self._user(request)
        now, left_ms = self._now(), read_left_ms(request, self.ignored)
        is_retry = read_is_retry(request, self.ignored)
        with within(
            deadline_ms=None if left_ms is None else now + left_ms,
            draw=self._draw(request, user, now),
            arrived_at=self._app.admission.clock.monotonic(),
            priority=priority,
            is_retry=is_retry,
        ):
            if job is not None:
                key = read_key(request, self.ignored)
                plan = job.options(priority=priority, idempotency_key=key).plan
                if key is None or not is_retry:  # with a key it takes effect once
                    plan = plan._replace(is_retry=is_retry)
                bound = BoundJob(job, plan)
                response = await self._submit(request, bound, receive, user)
                await response.send(send)
            elif (job_id := self._asked_for(request)) is not None:
                found = await job_status(self._app, job_id, result=self._result)
                await found.send(send)
            else:
                plan = self._plans[priority]._replace(is_retry=is_retry)
                if left_ms is not None:
                    plan = plan._replace(deadline_ms=left_ms)
                await self._serve(plan, (scope, receive, send), user)

    async def _serve(
        self, plan: CallPlan, call: tuple[Any, Any, Send], user: str | None
    ) -> None:
        admission = self._app.admission
        decision = admission.decide(plan, can_run=True, can_wait=False)
        if decision.verdict is Verdict.RUN:
            try:
                await self._service(*call)
            finally:
                admission.let_go(decision)
            return
        after_s = decision.retry_after_s
        response = refusal(decision.reason, after_s, is_known=user is not None)
        await response.send(call[2])

    async def _submit(
        self,
        request: Request,
        bound: BoundJob[..., Any],
        receive: Receive,
        user: str | None,
    ) -> Response:
        try:
            arguments = await self._arguments(receive, bound)
        except _UnfitError as unfit:
            return unfit.response
        is_async = wants_async(request)
        plan, spends = bound.plan, self._app.admission.spend_retry
        if is_async and plan.is_retry and not spends(plan.priority):
            return refusal(Reason.BUDGET_EXHAUSTED, None, is_known=user is not None)
        try:
            answer = await (bound.defer if is_async else bound.submit)(**arguments)
        except PayloadError as error:
            return _misfit(error)
        except OutcomeUnknownError as error:
            title = "nobody knows whether it was accepted; send it again with its key"
            headers = {"retry-after": "1"}
            return problem(503, title, headers=headers, job_id=error.job_id)
        response = of_answer(
            answer, status_path=self._status_path, is_known=user is not None
        )
        if is_async and response.status == 202:
            applied = {**response.headers, "preference-applied": "respond-async"}
            return response._replace(headers=applied)
        return response

    async def _arguments(
        self, receive: Receive, bound: BoundJob[..., Any]
    ) -> dict[str, Any]:
        try:
            return bound.read_json(await self._body(receive))
        except DecodeError as error:
            unfit = problem(400, "the body is no JSON object", detail=error.detail)
        except PayloadError as error:
            unfit = _misfit(error)
        raise _UnfitError(unfit)

    async def _body(self, receive: Receive) -> bytes:
        parts, size, more = [], 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise _UnfitError(problem(499, "the caller has left"))
            part = event.get("body", b"")
            size += len(part)
            if size > self._app.settings.max_payload_bytes:
                raise _UnfitError(problem(413, "the request is too large to be kept"))
            parts.append(part)
            more = event.get("more_body", False)
        return b"".join(parts) or b"{}"

    def _priority(self, request: Request, usual: Priority) -> Priority:
        known = None if self._classify is None else self._classify(request)
        base = usual if known is None else known
        asked = read_priority(request, self.ignored)
        if asked is None:
            return base
        if asked.rank > base.rank and not self._trusts_priority:
            self.ignored["priority"] += 1
            return base
        return asked

    def _draw(self, request: Request, user: str | None, now: int) -> float | None:
        draw = read_draw(request, self.ignored) if self._trusts_priority else None
        if draw is None and user is not None:
            draw = stable_draw(user, hour=now // _HOUR_MS)
        return draw

    def _asked_for(self, request: Request) -> str | None:
        place, _, job_id = request.path.rpartition("/")
        is_status = place == self._status_path and request.method in ("GET", "HEAD")
        return job_id if is_status and job_id else None

    def _now(self) -> int:
        return self._app.admission.clock.epoch_ms()


def _misfit(error: PayloadError) -> Response:
    return problem(422, "the arguments do not fit", detail=error.detail)


class _UnfitError(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status)
