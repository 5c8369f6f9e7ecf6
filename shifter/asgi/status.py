"""The status resource of a deferred job: where ``202`` points to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shifter.api.app import Shifter
from shifter.asgi.response import Response, problem
from shifter.errors import StoreError
from shifter.model.job_id import canonical_id
from shifter.model.state import JobState

_LOOK_AGAIN: Final = {"retry-after": "1"}


async def job_status(
    app: Shifter, job_id: str, *, result: Callable[[str], str] | None
) -> Response:
    """The state of a job.

    ``200`` while it waits or runs, and when it is done; ``303`` to its result when it
    is done and there is a place for results; ``410`` when it ended without one.

    Args:
        app: Whose job.
        job_id: As it was given; anything.
        result: From a job's id to the place of its result.
    """
    known = canonical_id(job_id)
    if known is None:
        return problem(404, "no such job")
    try:
        status = await app.status(known)
    except StoreError:
        return problem(503, "states cannot be read now", headers=_LOOK_AGAIN)
    state = JobState.WAITING if status is None else status.state
    body = {"job_id": known, "state": state.value}
    if not state.is_terminal:
        return Response(200, body, _LOOK_AGAIN)
    if state is not JobState.DONE:
        title = f"the job ended as {state.value}"
        return problem(410, title, job_id=known, state=state.value)
    if result is None:
        return Response(200, body)
    return Response(303, body, {"location": result(known)})
