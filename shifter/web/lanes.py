"""A look into one lane: its first waiting and delayed jobs; nothing is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shifter.ops.lanes import PeekRow, peek_lane
from shifter.web.guard import visit_of
from shifter.web.payload import payload_text

if TYPE_CHECKING:
    from shifter.web.pages import WebPage

_ROWS: Final = 50
"""Waiting and delayed jobs, each, on the page."""
_CHARS: Final = 2_000
"""Characters of a payload in the list."""


class PeekView(NamedTuple):
    """One job of a lane as a row.

    Attributes:
        row: As `shifter.ops.lanes` has it.
        payload: As text; ``None`` for a person who may not see it.
    """

    row: PeekRow
    payload: str | None


class LanePages:
    """The pages of single lanes.

    Args:
        page: The page that they belong to.
    """

    def __init__(self, page: WebPage) -> None:
        self._page = page

    def routes(self) -> list[Route]:
        """The routes of these pages."""
        return [Route("/lanes/{queue}/{priority}", self._peek)]

    async def _peek(self, request: Request) -> Response:
        name = "/".join(request.path_params[one] for one in ("queue", "priority"))
        found = await peek_lane(self._page.app.settings, name, _ROWS)
        may_see = visit_of(request).person.may_operate
        views = [
            PeekView(row, self._text(row) if may_see else None) for row in found.rows
        ]
        return self._page.page(
            request,
            "peek.html",
            name=name,
            found=found,
            views=views,
            may_see=may_see,
            now_ms=self._page.clock.epoch_ms(),
        )

    def _text(self, row: PeekRow) -> str:
        return payload_text(self._page.redact, row.job, row.payload, most=_CHARS)
