"""The endpoints of a dependency on its page: shown, drained and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from shifter.errors import ConfigError
from shifter.fleet.endpoint_view import EndpointRow
from shifter.model.time import duration_ms
from shifter.ops.audit import Action
from shifter.ops.overrides import (
    Override,
    endpoint_target,
    restore_endpoint,
    set_override,
)
from shifter.ops.status import Overview
from shifter.web.audit import audit
from shifter.web.guard import check_operator, read_form, read_reason

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

DRAINED: Final = "drained"
RESTORED: Final = "restored"
SHOWN: Final = 200
"""Endpoints of one dependency on its page; those that are out come first."""
# An override shorter than a second would end before most processes have read it.
_LEAST_MS: Final = 1_000


class EndpointPages:
    """What operators do with endpoints.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        path = "/dependencies/{name}/endpoints"
        return [Route(path, self._change, methods=["POST"])]

    async def _change(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        fields, person = await read_form(request), check_operator(request)
        to, url = fields.get("to", ""), fields.get("endpoint", "")
        target, settings = endpoint_target(name, url), self._page.app.settings
        reason = read_reason(fields)
        what = f"endpoint {to} {target.name}"
        if to == RESTORED:
            await restore_endpoint(settings, name, url)
        elif to == DRAINED:
            lasts = fields.get("for", "1h")
            lasts_ms = duration_ms("for", lasts, minimum_ms=_LEAST_MS)
            override = Override(DRAINED, person.name, reason, lasts_ms)
            await set_override(settings, target, override)
            what = f"{what} for {lasts}"
        else:
            raise ConfigError("endpoint", to, f"use one of {DRAINED}, {RESTORED}")
        await audit(settings, person, Action(what, person.name, reason))
        await self._page.renewed()
        return RedirectResponse(f"{self._page.root(request)}/dependencies/{name}", 303)


def endpoints_of(overview: Overview | None, name: str) -> Sequence[EndpointRow]:
    """The endpoints of a dependency, those that are out first."""
    if overview is None:
        return ()
    rows = [row for row in overview.endpoints if row.dependency == name]
    return sorted(rows, key=lambda row: (row.by is None, row.endpoint))[:SHOWN]
