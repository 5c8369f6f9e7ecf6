"""The status resource of a deferred job: where ``202`` points to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from shifter.api.app import Shifter
from shifter.asgi.response import Response, problem
from shifter.errors import StoreError
from shifter.model.claim import JobState, JobStatus
from shifter.model.job import canonical_id, made_ms

_LOOK_TWICE_S: Final = 0.4
_NEW_MS: Final = 10_000
_LOOK_AGAIN: Final = {"retry-after": "1"}
_UNKNOWN: Final = "unknown"


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
