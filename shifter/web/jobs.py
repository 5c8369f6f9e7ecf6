"""The page of one job: its state, and a request that it not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter import wiring
from shifter.model.job import canonical_id
from shifter.ops.audit import Action
from shifter.ops.job_reader import JobReader
from shifter.web.audit import audit
from shifter.web.guard import RefusedError, check_operator, read_form, read_reason
from shifter.wire.untrusted import encode_line

if TYPE_CHECKING:
    from shifter.web.pages import WebPage


class JobPages:
    """The pages of jobs.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        return [
            Route("/jobs", self._find),
            Route("/jobs/{job_id}", self._one),
            Route("/jobs/{job_id}/cancel", self._cancel, methods=["POST"]),
        ]

    async def _find(self, request: Request) -> Response:
        text = request.query_params.get("id", "").strip()
        job_id = canonical_id(text)
        if job_id is not None:
            return RedirectResponse(f"{self._page.root(request)}/jobs/{job_id}", 303)
        return self._page.page(request, "jobs.html", text=text)

    async def _one(self, request: Request) -> Response:
        job_id = _job_id(request)
        settings = self._page.app.settings
        status = await self._page.app.status(job_id)
        async with wiring.opened_admin(settings) as admin:
            reader = JobReader(admin, settings.namespace, self._page.clock)
            found = await reader.history(job_id, status)
        return self._page.page(
            request,
            "job.html",
            job_id=job_id,
            status=status,
            story=[_step(entry) for entry in found.story],
        )

    async def _cancel(self, request: Request) -> Response:
        person = check_operator(request)
        fields = await read_form(request)
        job_id, reason = _job_id(request), read_reason(fields, "kept")
        status = await self._page.app.cancel(job_id)
        what = f"job cancel {job_id}, which is {status.state.value}"
        action = Action(what, person.name, reason, job_id)
        await audit(self._page.app.settings, person, action)
        return RedirectResponse(f"{self._page.root(request)}/jobs/{job_id}", 303)


class Step(NamedTuple):
    """One event of a job as a row.

    Attributes:
        at_ms: Epoch milliseconds.
        event: What happened.
        facts: Everything else, as text by name.
    """

    at_ms: int
    event: str
    facts: dict[str, str]


def _step(entry: Mapping[str, Any]) -> Step:
    facts = {name: value for name, value in entry.items() if name not in Step._fields}
    texts = {
        name: value if isinstance(value, str) else encode_line(value).decode()
        for name, value in facts.items()
    }
    return Step(entry["at_ms"], entry["event"], texts)


def _job_id(request: Request) -> str:
    """The id in a path.

    Raises:
        RefusedError: It is no id of a job.
    """
    job_id = canonical_id(request.path_params["job_id"])
    if job_id is None:
        raise RefusedError(404, "the id of a job is a UUID")
    return job_id
