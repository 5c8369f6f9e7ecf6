"""Job routes: submits the job of a request, once for each key, and serves its state.

The body of a request is the job's arguments, the answer is the response; ``202`` points
to the status resource of a deferred job.

An ``Idempotency-Key`` counts for the user who sends it and for the route it is sent to,
so no caller can use up the key of another one. The digest of the first body is kept for
as long as the key; another body under the same key is an error of the caller, answered
422.

Source: draft-ietf-httpapi-idempotency-key-header, sections 2.2 and 2.6.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from shifter.api.app import Shifter
from shifter.api.job import BoundJob
from shifter.asgi.request import Request, wants_async
from shifter.asgi.response import (
    RESULT_HEADER,
    Response,
    of_answer,
    place,
    problem,
    refusal,
)
from shifter.errors import (
    ConfigError,
    DecodeError,
    OutcomeUnknownError,
    PayloadError,
    StoreError,
)
from shifter.jobs.request_scope import left_ms
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import JobSpec, canonical_id, made_ms
from shifter.model.reason import Reason
from shifter.telemetry import Event, Log

Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]

NO_USER: Final = "no user"
UNCHECKED: Final = "unchecked"
OTHER_BODY: Final = "other body"
# A store that is away must not delay the request; the claim still runs the job once.
_ASK_S: Final = 1.0
_ADVICE: Final = {
    NO_USER: "give user=: until then, callers of a route share its keys",
    UNCHECKED: "the state store cannot be asked, and another body is not seen",
}
_LOOK_TWICE_S: Final = 0.4
# A job accepted within this time may not be recorded yet.
_NEW_MS: Final = 10_000
_LOOK_AGAIN: Final = {"retry-after": "1"}
_UNKNOWN: Final = "unknown"


class JobRoutes(NamedTuple):
    """State that all job routes of a middleware share.

    Attributes:
        app: The app of the jobs.
        status_path: The path of their states, below the root path.
        left_out: How often a result was no JSON, by job.
        keys: The idempotency keys of their requests.
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
            self._count_left_out(plan.spec.name)
        if is_async and response.status == 202:
            applied = {**response.headers, "preference-applied": "respond-async"}
            return response._replace(headers=applied)
        return response

    async def _is_once(self, bound: BoundJob[..., Any], body: bytes) -> bool:
        plan = bound.plan
        key = plan.idempotency_key
        return key is None or await self.keys.is_for(plan.spec, key, body)

    def _count_left_out(self, job: str) -> None:
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
            # A client that sends its body slowly is not served past its own deadline.
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


class Keys:
    """The keys of a middleware's job routes.

    Args:
        app: Keeps the digests of bodies.

    Attributes:
        counts: How often a key came from no known user, could not be checked, or was
            refused for another body.
    """

    def __init__(self, app: Shifter) -> None:
        self._app = app
        self.counts: Counter[str] = Counter()

    def scoped(self, key: str | None, user: str | None, route: str) -> str | None:
        """The key within the scope of its user and route; ``None`` without a key.

        Args:
            key: As its caller sent it.
            user: Who sent it; without one, all that are not known are one.
            route: Where to.
        """
        if key is None:
            return None
        if user is None:
            self._count(NO_USER)
        return f"http.{_digest([user, route, key])}"

    async def is_for(self, spec: JobSpec, key: str, body: bytes) -> bool:
        """Whether a key was used with no other body, as far as that can be known.

        Args:
            spec: Of the job.
            key: As its job has it.
            body: A JSON document.
        """
        # Decoded first, so that spaces and the order of fields do not matter.
        word = _digest(msgspec.json.decode(body))
        name = f"{spec.name}:{key}"
        try:
            async with asyncio.timeout(_ASK_S):
                kept = await self._app.note(name, word, keep_ms=spec.dedup_ms)
        except (StoreError, ConfigError, TimeoutError):
            self._count(
                UNCHECKED
            )  # the claim decides "once", whatever this check finds
            return True
        if kept != word:
            self.counts[OTHER_BODY] += 1
        return kept == word

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if self.counts[what] == 1:
            advice = _ADVICE[what]
            Log().warning(Event.KEY_DOUBTED, header="idempotency-key", want=advice)


def _digest(value: object) -> str:
    """The digest of a JSON document, independent of the order of its fields."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


async def job_status(
    app: Shifter, job_id: str, *, result: Callable[[str], str] | None
) -> Response:
    """The state of a job.

    ``200`` while it waits or runs, and when it is done; ``303`` to its result when it
    is done and there is a place for results; ``410`` when it ended without one; ``404``
    for an id that no job has. Where a job could have the id and could not be recorded,
    that is ``200`` with the state ``unknown``.

    Args:
        app: Whose job.
        job_id: As it was given; anything.
        result: From a job's id to the place of its result.
    """
    known = canonical_id(job_id)
    if known is None:
        return problem(404, "no such job")
    try:
        status = await _look(app, known)
        if status is None and await app.may_wait(known):
            return Response(200, {"job_id": known, "state": _UNKNOWN}, _LOOK_AGAIN)
    except StoreError:
        return problem(503, "states cannot be read now", headers=_LOOK_AGAIN)
    if status is None:
        return problem(404, "no such job", job_id=known)
    return _of_state(known, status.state, result)


async def _look(app: Shifter, job_id: str) -> JobStatus | None:
    """A job's state; one that may have been accepted just now is looked for twice."""
    status, made = await app.status(job_id), made_ms(job_id)
    is_new = made is None or app.admission.clock.epoch_ms() - made < _NEW_MS
    if status is None and is_new:
        # Another process may have accepted it, and records it behind its answer.
        await asyncio.sleep(_LOOK_TWICE_S)
        status = await app.status(job_id)
    return status


def _of_state(
    job_id: str, state: JobState, result: Callable[[str], str] | None
) -> Response:
    body = {"job_id": job_id, "state": state.value}
    if not state.is_terminal:
        return Response(200, body, _LOOK_AGAIN)
    if state is not JobState.DONE:
        title = f"the job ended as {state.value}"
        return problem(410, title, job_id=job_id, state=state.value)
    if result is None:
        return Response(200, body)
    return Response(303, body, {"location": result(job_id)})
