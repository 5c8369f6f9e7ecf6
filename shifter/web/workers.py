"""The page of one worker: what it runs, and an order that it drain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter.ops.audit import Action
from shifter.ops.worker_view import view_worker
from shifter.ops.workers import drain_worker, find_worker, read_workers
from shifter.web.audit import audit
from shifter.web.guard import check_operator, read_form, read_reason

if TYPE_CHECKING:
    from shifter.web.pages import WebPage


class WorkerPages:
    """The pages of workers.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        base = "/workers/{worker_id:path}"
        return [
            Route(f"{base}/drain", self._drain, methods=["POST"]),
            Route(base, self._one),
        ]

    async def _one(self, request: Request) -> Response:
        worker_id: str = request.path_params["worker_id"]
        workers = await read_workers(self._page.app.settings)
        report = find_worker(workers, worker_id)
        view = view_worker(report, self._page.clock.epoch_ms())
        return self._page.page(request, "worker.html", view=view)

    async def _drain(self, request: Request) -> Response:
        person = check_operator(request)
        fields = await read_form(request)
        worker_id: str = request.path_params["worker_id"]
        reason = read_reason(fields)
        settings = self._page.app.settings
        await drain_worker(settings, worker_id, owner=person.name, reason=reason)
        action = Action(f"worker drain {worker_id}", person.name, reason)
        await audit(settings, person, action)
        await self._page.renewed()
        return RedirectResponse(f"{self._page.root(request)}/", 303)
