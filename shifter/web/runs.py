"""Runs over dead letters that were begun on the page, and the pages of all runs."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter import wiring
from shifter.deadletter import Run, ScanProgress, Selection
from shifter.deadletter.journal import RESUMABLE, Journal
from shifter.errors import ShifterError
from shifter.ops.audit import Action
from shifter.ops.dead_letters import run_facts
from shifter.web.access import Person
from shifter.web.audit import audit
from shifter.web.guard import RefusedError, check_operator, read_form
from shifter.wiring.dead_letters import opened_dead_letters, opened_run

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

_SHOWN: Final = 50
_KEPT: Final = 100
"""Runs of this process whose progress is remembered."""


class PageRun:
    """A run that was begun or resumed on the page.

    Attributes:
        name: Name of the run.
        action: ``replay``, ``discard`` or ``resume``.
        source: Queue or topic.
        selection: Which dead letters.
        reason: Why, in the person's words.
        person: Who.
        progress: How far it came, while this process carries it out.
        failure: Why it could not go on; ``None`` while it can.
        is_over: Whether this process has ended its work on it.
    """

    def __init__(  # one argument a fact
        self,
        name: str,
        action: str,
        source: str,
        selection: Selection,
        reason: str,
        person: Person,
    ) -> None:
        self.name, self.action, self.source = name, action, source
        self.selection, self.reason, self.person = selection, reason, person
        self.progress: ScanProgress | None = None
        self.failure: str | None = None
        self.is_over = False

    def note(self, progress: ScanProgress) -> None:
        """Note how far the run is."""
        self.progress = progress


class Runs:
    """Runs of this process, and the pages of all runs.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page
        self._own: dict[str, PageRun] = {}

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        return [
            Route("/runs", self._all),
            Route("/runs/{name}", self._one),
            Route("/runs/{name}/resume", self._resume, methods=["POST"]),
        ]

    def prepare(
        self,
        action: str,
        source: str,
        selection: Selection,
        reason: str,
        person: Person,
    ) -> PageRun:
        """A run that `carry_out` begins."""
        name = f"{action}-{secrets.token_hex(4)}"
        return self._add(PageRun(name, action, source, selection, reason, person))

    async def carry_out(self, run: PageRun) -> None:
        """Carry a run out; its end, or why it failed, is noted and audited."""
        try:
            ended = await self._work(run)
        except ShifterError as error:
            run.failure = str(error)
            state = "failed"
        else:
            state = ended.state
        finally:
            run.is_over = True
        what = f"dead letters {run.action} {run.source}, run {run.name}: {state}"
        action = Action(what, run.person.name, run.reason)
        await audit(self._page.app.settings, run.person, action)
        await self._page.renewed()

    async def _work(self, run: PageRun) -> Run:
        settings, name, by = self._page.app.settings, run.name, run.person.name
        if run.action == "resume":
            async with opened_run(settings, name) as (letters, history):
                return await letters.resume(
                    name, by=by, on_progress=run.note, history=history
                )
        async with opened_dead_letters(settings, run.source) as letters:
            act = letters.replay if run.action == "replay" else letters.discard
            return await act(
                run.selection,
                reason=run.reason,
                by=by,
                name=name,
                on_progress=run.note,
            )

    def _add(self, run: PageRun) -> PageRun:
        self._own[run.name] = run
        while len(self._own) > _KEPT:
            del self._own[next(iter(self._own))]
        return run

    async def _all(self, request: Request) -> Response:
        async with self._journal() as found:
            shown = sorted(found.values(), key=lambda run: -run.begun.at_ms)[:_SHOWN]
        facts = [run_facts(run) for run in shown]
        return self._page.page(request, "runs.html", runs=facts, count=len(found))

    async def _one(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        own = self._own.get(name)
        async with self._journal() as found:
            run = found.get(name)
        if run is None and own is None:
            raise RefusedError(404, f"there is no run {name!r}")
        facts: dict[str, Any] | None = None if run is None else run_facts(run)
        is_live = own is not None and not own.is_over
        can_resume = (
            not is_live
            and run is not None
            and run.state != "done"
            and run.begun.action in RESUMABLE
        )
        template = "run_part.html" if "hx-request" in request.headers else "run.html"
        return self._page.page(
            request,
            template,
            name=name,
            own=own,
            run=facts,
            is_live=is_live,
            can_resume=can_resume,
        )

    async def _resume(self, request: Request) -> Response:
        person = check_operator(request)
        fields = await read_form(request)
        name: str = request.path_params["name"]
        async with self._journal() as found:
            if name not in found:
                raise RefusedError(404, f"there is no run {name!r}")
            source = found[name].begun.source
        reason = fields.get("reason", "").strip()
        own = self._add(PageRun(name, "resume", source, Selection(), reason, person))
        return RedirectResponse(
            f"{self._page.root(request)}/runs/{name}",
            303,
            background=BackgroundTask(self.carry_out, own),
        )

    @asynccontextmanager
    async def _journal(self) -> AsyncGenerator[dict[str, Run]]:
        settings = self._page.app.settings
        async with wiring.opened_admin(settings) as admin:
            history = await Journal(admin, settings.namespace).load()
            yield history.runs
