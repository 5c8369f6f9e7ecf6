"""Admission of the requests of an ASGI service.

A request to a *job route* is submitted as a job, and the answer is the response. Any
other request takes a slot of this process; it cannot be deferred, so it is served or
refused. Health checks always pass, since a busy process is not a dead one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from shifter.api.app import Shifter
from shifter.api.job import BoundJob, Job
from shifter.asgi.deadline import TimedCall
from shifter.asgi.job_route import JobRoutes, Keys, job_status
from shifter.asgi.request import (
    Request,
    path_below,
    read_draw,
    read_is_retry,
    read_key,
    read_left_ms,
    read_priority,
    read_request,
)
from shifter.asgi.response import Send, problem, refusal
from shifter.errors import ConfigError
from shifter.jobs.request_scope import within
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.policy.admission.input import Verdict
from shifter.policy.admission.prioritizer import granted_priority, stable_draw
from shifter.produce.options import CallOptions, CallPlan, plan_call
from shifter.telemetry import Event, Log
from shifter.telemetry.trace_context import caller_trace

Service: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

_HEALTH: Final = ("/health", "/healthz", "/startupz", "/livez", "/readyz", "/metrics")
# The draw of a user changes each hour, so that no user is refused all day.
_HOUR_MS: Final = 3_600_000
_ROUTE: Final = re.compile(r"(?P<method>[^\s]+) (?P<path>[^\s]+)")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]*")
_TEMPLATE: Final = re.compile(r"[{}<>*]|/:")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")


class AdmissionMiddleware:
    """Runs, defers, degrades or refuses requests.

    Args:
        service: The ASGI service that is protected.
        app: The app whose admission decides; the setting ``concurrency`` is its number
            of slots.
        jobs: ``"POST /reports"`` to a job whose arguments are the request's body. Such
            a route, and all paths below, are without the ``root_path`` of a mounted
            service.
        classify: The priority of a request; ``None`` means the job's own, or
            ``NORMAL``.
        trusts_priority: Whether callers are trusted: then the ``Priority`` header may
            raise the priority of a request (it may always lower it), and
            ``shifter-height`` is read.
        user: The user of a request. Requests of one user are admitted or refused
            together, and an ``Idempotency-Key`` counts for its user only.
        health: Paths that are never refused.
        status_path: Where states of jobs are served.
        result: From a job's id to the place of its result, if there is one.

    Attributes:
        ignored: How often a header was ignored, or cut to its bounds, by header.
        keys: How often an ``Idempotency-Key`` came from no known user, could not be
            checked, or was refused for another body.
        late: Number of requests that were cancelled at their deadline.
        cut: Number of late requests whose response had begun and was left without an
            end.
        websockets: Number of connections that passed without a decision.
        open_websockets: Number of those connections that are open now.
        left_out: How often a result was no JSON and was not sent, by job.

    Raises:
        ConfigError: A route or a path can never match a request.
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
        self._health = check_paths("health", health)
        self._jobs = check_routes(jobs or {}, self._health)
        self._classify, self._user = classify, user
        [self._status_path] = check_paths("status_path", [status_path.rstrip("/")])
        self.left_out: Counter[str] = Counter()
        keys = Keys(app)
        self.keys, self._scoped = keys.counts, keys.scoped
        self._routes = JobRoutes(app, self._status_path, self.left_out, keys)
        if self._jobs and user is None:
            want = "say who asks: Idempotency-Key counts for each user apart"
            Log().warning(Event.SETTING_DOUBTED, setting="user", want=want)
        self._result, self._trusts_priority = result, trusts_priority
        self.ignored: Counter[str] = Counter()
        self.websockets = self.open_websockets = self.late = self.cut = 0
        spec = JobSpec(name="http", queue="http")
        # Made once: requests of one priority differ in their deadlines only.
        self._plans = {
            (priority, is_retry): plan_call(
                app.namespace, spec, CallOptions(priority=priority)
            )._replace(is_retry=is_retry)
            for priority in Priority
            for is_retry in (False, True)
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection; what is not HTTP passes."""
        if scope["type"] == "websocket":
            await self._pass_websocket(scope, receive, send)
            return
        if scope["type"] != "http" or path_below(scope)[1] in self._health:
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
            trace=caller_trace(request.headers),
        ):
            if job is not None:
                try:
                    given = read_key(scope)
                except ValueError as error:
                    title = "the Idempotency-Key cannot be read"
                    await problem(400, title, detail=str(error)).send(send)
                    return
                route = f"{request.method} {request.root_path}{request.path}"
                key = self._scoped(given, user, route)
                plan = job.options(priority=priority, idempotency_key=key).plan
                if key is None or not is_retry:  # with a key it takes effect once
                    plan = plan._replace(is_retry=is_retry)
                bound = BoundJob(job, plan)
                response = await self._routes.submit(
                    request, bound, receive, is_known=user is not None
                )
                await response.send(send)
            elif (job_id := self._asked_for(request)) is not None:
                found = await job_status(self._app, job_id, result=self._result)
                await found.below(request.root_path).send(send)
            else:
                plan = self._plans[priority, is_retry]
                if left_ms is not None:
                    plan = plan._replace(deadline_ms=left_ms)
                await self._serve(plan, (scope, receive, send), user)

    async def _serve(
        self, plan: CallPlan, call: tuple[Any, Any, Send], user: str | None
    ) -> None:
        with self._app.admission.slot(plan) as decision:
            if decision.verdict is Verdict.RUN:
                if plan.deadline_ms is None:
                    await self._service(*call)
                else:
                    await self._in_time(plan.deadline_ms, *call)
                return
        after_s = decision.retry_after_s
        response = refusal(decision.reason, after_s, is_known=user is not None)
        await response.send(call[2])

    async def _in_time(
        self, left_ms: int, scope: Any, receive: Any, send: Send
    ) -> None:
        call = TimedCall(send)
        try:
            await call.serve(
                lambda send: self._service(scope, receive, send), left_ms / 1_000
            )
        finally:
            self.late += call.is_late
            self.cut += call.is_late and call.has_begun

    async def _pass_websocket(self, *call: Any) -> None:
        """Let a websocket pass: it may stay open for days, and would hold a slot."""
        self.websockets += 1
        self.open_websockets += 1
        try:
            await self._service(*call)
        finally:
            self.open_websockets -= 1

    def _priority(self, request: Request, usual: Priority) -> Priority:
        known = None if self._classify is None else self._classify(request)
        priority, was_cut = granted_priority(
            usual if known is None else known,
            read_priority(request, self.ignored),
            # Any proxy forwards a header, so none of them grants CRITICAL: only the
            # service's own `classify` does.
            highest=Priority.HIGH if self._trusts_priority else None,
        )
        if was_cut:
            self.ignored["priority"] += 1
        return priority

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


def check_paths(field: str, paths: Iterable[str]) -> frozenset[str]:
    """Check that requests can have these paths.

    Raises:
        ConfigError: One of them never matches, or is no path.
    """
    if isinstance(paths, str):
        raise ConfigError(field, paths, f"use a collection of paths: [{paths!r}]")
    return frozenset(_checked(field, path, path) for path in paths)


def check_routes(
    routes: Mapping[Any, Any], health: Iterable[str]
) -> dict[str, Job[..., Any]]:
    """Check the routes of jobs.

    Args:
        routes: ``"POST /reports"`` to a job.
        health: Paths that pass before any route is looked at.

    Raises:
        ConfigError: A route never matches, or its job is none.
    """
    passing = frozenset(health)
    for route, job in routes.items():
        match = _ROUTE.fullmatch(route) if isinstance(route, str) else None
        if match is None:
            want = "use a method, a space and a path, such as 'POST /reports'"
            raise ConfigError("jobs", route, want)
        method, path = match["method"], match["path"]
        if _METHOD.fullmatch(method) is None:
            want = f"a method is in upper case: {f'{method.upper()} {path}'!r}"
            raise ConfigError("jobs", route, want)
        if _checked("jobs", route, path) in passing:
            want = "a health check passes before it; use another path"
            raise ConfigError("jobs", route, want)
        if not isinstance(job, Job):
            want = f"{route!r} wants a job, made by app.job"
            raise ConfigError("jobs", job, want)
    return dict(routes)


def _checked(field: str, given: object, path: object) -> str:
    """The path, if a request can have it."""
    want = None
    if not isinstance(path, str) or not path.startswith("/"):
        want = "a path begins with '/'"
    elif _TEMPLATE.search(path):
        want = "a path is compared as a whole; send what varies in the body"
    elif "?" in path or "#" in path:
        want = "a path is without its query"
    elif _ENCODED.search(path):
        want = "a path is compared decoded; write the characters themselves"
    if want is not None:
        raise ConfigError(field, given, want)
    return str(path)
