"""Job routes: the body of a request is the arguments, the answer is the response."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from shifter.api.app import Shifter
from shifter.api.job import BoundJob
from shifter.asgi.idempotency import Keys
from shifter.asgi.place import place
from shifter.asgi.request import Request, wants_async
from shifter.asgi.response import RESULT_HEADER, Response, of_answer, problem, refusal
from shifter.errors import DecodeError, OutcomeUnknownError, PayloadError
from shifter.jobs.request_scope import left_ms
from shifter.model.reason import Reason
from shifter.telemetry import Event, Log

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]


class JobRoutes(NamedTuple):
    """State that all job routes of a middleware share.

    Attributes:
        app: The app of the jobs.
        status_path: Where their states are served, below the root path.
        left_out: How often a result was no JSON, by job.
        keys: Of their requests.
    """

    app: Shifter
    status_path: str
    left_out: Counter[str]
    keys: Keys

    async def submit(
        self,
        request: Request,
        bound: BoundJob[..., Any],
        receive: Receive,
        *,
        is_known: bool,
    ) -> Response:
        """Submit the job of a request.

        Args:
            request: The request.
            bound: Its job, with the options that the request gave.
            receive: Reads the body.
            is_known: Whether the caller is known: a known one is refused with 429
                instead of 503.
        """
        try:
            arguments = await self._arguments(receive, bound)
        except _UnfitError as unfit:
            return unfit.response
        is_async, plan = wants_async(request), bound.plan
        spends = self.app.admission.spend_retry
        if is_async and plan.is_retry and not spends(plan.priority):
            return refusal(Reason.BUDGET_EXHAUSTED, None, is_known=is_known)
        try:
            answer = await (bound.defer if is_async else bound.submit)(**arguments)
        except PayloadError as error:
            return _misfit(error)
        except OutcomeUnknownError as error:
            title = "it may have been accepted; send it again with its key"
            headers = {"retry-after": "1"}
            return problem(503, title, headers=headers, job_id=error.job_id)
        status_path = place(request.root_path, self.status_path)
        response = of_answer(answer, status_path=status_path, is_known=is_known)
        if RESULT_HEADER in response.headers:
            self._say_left_out(plan.spec.name)
        if is_async and response.status == 202:
            applied = {**response.headers, "preference-applied": "respond-async"}
            return response._replace(headers=applied)
        return response

    async def _is_once(self, bound: BoundJob[..., Any], body: bytes) -> bool:
        plan = bound.plan
        key = plan.idempotency_key
        return key is None or await self.keys.is_for(plan.spec, key, body)

    def _say_left_out(self, job: str) -> None:
        self.left_out[job] += 1
        if self.left_out[job] == 1:
            want = "return what msgspec writes as JSON, or a model of pydantic"
            Log().warning(Event.RESULT_LEFT_OUT, job=job, want=want)

    async def _arguments(
        self, receive: Receive, bound: BoundJob[..., Any]
    ) -> dict[str, Any]:
        try:
            left = left_ms(self.app.admission.clock.epoch_ms())
            async with asyncio.timeout(None if left is None else left / 1_000):
                body = await self._body(receive)
            arguments = bound.read_json(body)
            if await self._is_once(bound, body):
                return arguments
            unfit = problem(422, "the Idempotency-Key was used with another body")
        except TimeoutError:
            unfit = refusal(Reason.EXPIRED, None, is_known=False)
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
            if size > self.app.settings.max_payload_bytes:
                raise _UnfitError(problem(413, "the request is too large to be kept"))
            parts.append(part)
            more = event.get("more_body", False)
        return b"".join(parts) or b"{}"


def _misfit(error: PayloadError) -> Response:
    return problem(422, "the arguments do not fit", detail=error.detail)


class _UnfitError(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status)
