"""Pages that change settings of the fleet: circuits, quality, execution windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter.errors import ConfigError
from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.model.time import duration_ms
from shifter.ops.audit import Action
from shifter.ops.overrides import (
    Override,
    OverrideTarget,
    circuit_target,
    clear_override,
    declared_windows,
    quality_target,
    set_override,
    window_target,
)
from shifter.web.audit import audit
from shifter.web.endpoints import endpoints_of
from shifter.web.guard import RefusedError, check_operator, read_form, read_reason

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

AUTO: Final = "auto"
"""Value of a form that removes an override."""
# An override shorter than a second would end before most processes have read it.
_LEAST_MS: Final = 1_000


class SettingPages:
    """The pages of dependencies and of settings.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        both = ["GET", "POST"]
        return [
            Route("/dependencies/{name}", self._dependency, methods=both),
            Route("/settings", self._settings),
            Route("/settings/quality", self._quality, methods=["POST"]),
            Route("/settings/window", self._window, methods=["POST"]),
        ]

    async def _dependency(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        target = circuit_target(name)
        if request.method == "POST":
            await self._override(request, "circuit", target, await read_form(request))
            return self._back(request, f"/dependencies/{name}")
        reading = await self._page.recent()
        views = {view.row.dependency: view for view in self._page.live.dependencies()}
        if name not in views and name not in self._page.app.dependencies:
            raise RefusedError(404, f"no process reports a dependency {name!r}")
        return self._page.page(
            request,
            "dependency.html",
            name=name,
            view=views.get(name),
            endpoints=endpoints_of(reading.overview, name),
        )

    async def _settings(self, request: Request) -> Response:
        reading = await self._page.recent()
        return self._page.page(
            request,
            "settings.html",
            overview=reading.overview,
            qualities=list(Quality),
            queues=self._page.app.queues,
            priorities=list(Priority),
            declared=declared_windows(self._page.app, self._page.clock),
        )

    async def _quality(self, request: Request) -> Response:
        fields = await read_form(request)
        await self._override(request, "quality", quality_target(), fields)
        return self._back(request, "/settings")

    async def _window(self, request: Request) -> Response:
        fields = await read_form(request)
        text = fields.get("priority", "")
        if text and text not in set(Priority):
            raise ConfigError("priority", text, f"use one of {', '.join(Priority)}")
        priority = Priority(text) if text else None
        queue, job = fields.get("queue") or None, fields.get("job") or None
        target = window_target(queue, priority, job)
        await self._override(request, "window", target, fields)
        return self._back(request, "/settings")

    async def _override(
        self,
        request: Request,
        kind: str,
        target: OverrideTarget,
        fields: Mapping[str, str],
    ) -> None:
        """Make or remove an override as a form asks for it.

        Raises:
            RefusedError: The person may not, or gave no reason.
            ConfigError: A value is wrong.
            StoreError: The state store does not answer.
        """
        person = check_operator(request)
        to, reason = fields.get("to", ""), fields.get("reason", "").strip()
        settings, lasts = self._page.app.settings, ""
        if to == AUTO:
            await clear_override(settings, target)
        else:
            reason = read_reason(fields)
            lasts = fields.get("for", "1h")
            lasts_ms = duration_ms("for", lasts, minimum_ms=_LEAST_MS)
            if to not in target.values:
                want = f"use one of {', '.join(target.values)}"
                raise ConfigError(target.field, to, want)
            await set_override(
                settings, target, Override(to, person.name, reason, lasts_ms)
            )
        what = f"{kind} {to} {target.name}" + (f" for {lasts}" if lasts else "")
        await audit(settings, person, Action(what, person.name, reason))
        await self._page.renewed()

    def _back(self, request: Request, path: str) -> Response:
        return RedirectResponse(f"{self._page.root(request)}{path}", 303)
