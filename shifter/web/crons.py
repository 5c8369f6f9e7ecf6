"""The page of cron jobs: when each fires, and run now, pause, resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter.errors import StoreError
from shifter.model.time import duration_ms
from shifter.ops.audit import Action
from shifter.ops.crons import (
    CronRow,
    declared_crons,
    pause_cron,
    read_crons,
    resume_cron,
    run_cron,
)
from shifter.ops.overrides import Override
from shifter.web.access import Person
from shifter.web.audit import audit
from shifter.web.guard import RefusedError, check_operator, read_form, read_reason

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

# A shorter pause would end before most workers have read it.
_LEAST_MS = 1_000


class CronPages:
    """The page of cron jobs.

    Args:
        page: The page that it belongs to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of this page."""
        return [
            Route("/cron", self._list),
            Route("/cron/{name:path}", self._act, methods=["POST"]),
        ]

    async def _list(self, request: Request) -> Response:
        declared = declared_crons(self._page.app)
        rows, failure = list[CronRow](), None
        try:
            rows = await read_crons(self._page.app.settings, declared)
        except StoreError as error:
            # The page stays, and shows what the app declares.
            failure = str(error)
            none = (None,) * 6
            rows = [
                CronRow(name, schedule, "UTC", 0, *none)
                for name, schedule in sorted(declared.items())
            ]
        return self._page.page(request, "cron.html", rows=rows, failure=failure)

    async def _act(self, request: Request) -> Response:
        person = check_operator(request)
        fields = await read_form(request)
        name: str = request.path_params["name"]
        reason = read_reason(fields)
        action = await self._do(person, name, reason, fields)
        await audit(self._page.app.settings, person, action)
        return RedirectResponse(f"{self._page.root(request)}/cron", 303)

    async def _do(
        self, person: Person, name: str, reason: str, fields: Mapping[str, str]
    ) -> Action:
        """Do what a form asks for.

        Raises:
            RefusedError: It asks for nothing that there is.
            UnknownNameError: There is no such cron job.
            StoreError: The state store does not answer.
        """
        settings, by = self._page.app.settings, person.name
        declared, to = declared_crons(self._page.app), fields.get("to", "")
        if to == "run":
            clock = self._page.clock
            job_id = await run_cron(
                settings, name, owner=by, reason=reason, clock=clock
            )
            return Action(f"cron run {name}", by, reason, job_id)
        if to == "pause":
            lasts = fields.get("for", "24h")
            lasts_ms = duration_ms("for", lasts, minimum_ms=_LEAST_MS)
            override = Override("pause", by, reason, lasts_ms)
            await pause_cron(settings, name, override, declared)
            return Action(f"cron pause {name} for {lasts}", by, reason)
        if to == "resume":
            await resume_cron(settings, name, declared)
            return Action(f"cron resume {name}", by, reason)
        raise RefusedError(400, "use run, pause or resume")
