"""The operator's page as an ASGI application: routes, and what each of them shows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.errors import (
    AlreadyAskedError,
    ConfigError,
    FilterError,
    HeldElsewhereError,
    NotTakenError,
    ShifterError,
    StoreError,
    UnknownNameError,
    UnknownSourceError,
)
from shifter.ops.changes import RecentChanges
from shifter.ops.overrides import windows_of
from shifter.ops.reading import Reader, Reading
from shifter.ops.status import Overview, StatusSources
from shifter.telemetry import asgi_metrics
from shifter.web.access import Access
from shifter.web.crons import CronPages
from shifter.web.endpoints import EndpointPages
from shifter.web.guard import (
    Guard,
    RefusedError,
    Sessions,
    read_form,
    set_cookie,
    visit_of,
)
from shifter.web.history import History
from shifter.web.jobs import JobPages
from shifter.web.lanes import LanePages
from shifter.web.letters import LetterPages
from shifter.web.live import LiveSections
from shifter.web.render import environment
from shifter.web.runs import Runs
from shifter.web.scaling import ScaleTask
from shifter.web.settings import SettingPages
from shifter.web.view import view_lanes
from shifter.web.workers import WorkerPages
from shifter.wire.untrusted import encode_line

_STATIC: Final = Path(__file__).parent / "static"
_FIRST_WAIT_S: Final = 0.15
"""How long the first page waits for a reading; without one it is drawn empty."""
_STATUS_WAIT_S: Final = 15.0
_RENEWED_WAIT_S: Final = 3.0
_STALE_LOOK_S: Final = 3.0
"""While no reading comes, open pages look so often whether theirs is stale."""
_YOUNG_S: Final = 1.0
_IDLE_S: Final = 10.0
"""Seconds between two readings while no page is open."""
_LANES: Final = 200
"""Lanes on one page of all lanes."""


class WebPage:
    """Serves the operator's page; made by `shifter.web.asgi`.

    Args:
        app: Its settings name the stores.
        access: Who may read and who may operate.
        redact: Changes a payload before it is shown; see `shifter.web.asgi`.
    """

    def __init__(
        self,
        app: Shifter,
        access: Access,
        redact: Callable[[str, Any], Any] | None = None,
    ) -> None:
        if app.settings.log_url is None:
            raise ConfigError("log", None, "set it to kafka://host:port")
        self.app, self.redact = app, redact
        self.clock = SystemClock()
        self.history = History()
        self.changes = RecentChanges(windows_of(app))
        self.reader = Reader(app.settings, self.clock, idle_s=_IDLE_S, note=self._note)
        self.scaling = ScaleTask(app, self.clock)
        self.templates = environment()
        self.live = LiveSections(self)
        self.sessions = Sessions(access)
        self.runs = Runs(self)
        routes = [
            Route("/", self._overview),
            Route("/lanes", self._lanes),
            Route("/events", self._events),
            Route("/healthz", _healthz),
            Route("/api/status", self._status),
            Route("/api/history", self._history),
            Route("/metrics", asgi_metrics(app)),
            Route("/scale", self._scale),
            Route("/login", self._login, methods=["GET", "POST"]),
            *SettingPages(self).routes(),
            *EndpointPages(self).routes(),
            *LetterPages(self).routes(),
            *self.runs.routes(),
            *JobPages(self).routes(),
            *WorkerPages(self).routes(),
            *LanePages(self).routes(),
            *CronPages(self).routes(),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        inner = Starlette(
            routes=routes,
            exception_handlers={
                RefusedError: self._refused,
                HTTPException: self._missing,
                ShifterError: self._failed,
            },
            lifespan=self._lifespan,
        )
        self._asgi = Guard(inner, self.sessions, self.clock.epoch_ms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await self._asgi(scope, receive, send)

    async def close(self) -> None:
        """Stop reading; a service that mounts the page calls it at its end."""
        await self.reader.close()
        await self.scaling.close()

    def page(
        self, request: Request, template: str, /, *, code: int = 200, **facts: Any
    ) -> HTMLResponse:
        """A page for one visit, made of a template.

        Args:
            request: The request; its person and its token are known to the template.
            template: Name of the template.
            code: Status of HTTP.
            **facts: Values that the template uses.
        """
        visit = visit_of(request)
        text = self.templates.get_template(template).render(
            root=self.root(request),
            person=visit.person,
            csrf=visit.csrf,
            namespace=self.app.namespace,
            **facts,
        )
        return HTMLResponse(text, code)

    def root(self, request: Request) -> str:
        """The path that the page is mounted at, without a slash at its end."""
        root: str = request.scope.get("root_path", "")
        return root.rstrip("/")

    async def recent(self) -> Reading:
        """A reading that is young enough for a page, or the last one.

        A reading that takes longer than a person would wait is not waited for.
        """
        is_slow = self.reader.reading.took_s > _FIRST_WAIT_S
        wait_s = 0.0 if is_slow else _FIRST_WAIT_S
        return await self.reader.fresh(within_s=_YOUNG_S, wait_s=wait_s)

    async def _note(self, sources: StatusSources, overview: Overview) -> None:
        self.history.note(overview)
        await self.changes.note(sources, overview)

    async def renewed(self) -> None:
        """Wait a while for a reading that shows what was just changed."""
        await self.reader.at_once(wait_s=_RENEWED_WAIT_S)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        await self.reader.fresh(within_s=0.0, wait_s=0.0)
        try:
            yield
        finally:
            await self.close()

    async def _overview(self, request: Request) -> Response:
        await self.recent()
        return self.page(request, "overview.html", sections=self.live.sections())

    async def _lanes(self, request: Request) -> Response:
        reading = await self.recent()
        match, overview = request.query_params.get("match", ""), reading.overview
        lanes = [] if overview is None else view_lanes(overview, match)
        page = _page_number(request)
        first = (page - 1) * _LANES
        return self.page(
            request,
            "lanes.html",
            lanes=lanes[first : first + _LANES],
            lanes_total=len(lanes),
            match=match,
            number=page,
            pages=max(1, -(-len(lanes) // _LANES)),
        )

    async def _events(self, request: Request) -> Response:
        visit_of(request)

        async def changes() -> AsyncGenerator[dict[str, str]]:
            sent: dict[str, str] = {}
            found = self.reader.readings(wait_s=_STALE_LOOK_S)
            async with contextlib.aclosing(found) as readings:
                async for _ in readings:
                    for name, text in self.live.sections().items():
                        if sent.get(name) != text:
                            sent[name] = text
                            yield {"event": name, "data": text}
                    if points := self.history.points:
                        data = encode_line(points[-1]).decode()
                        yield {"event": "point", "data": data}

        return EventSourceResponse(changes(), ping=15, send_timeout=30)

    async def _scale(self, _: Request) -> Response:
        status, body = await self.scaling.page()
        return Response(body, status, media_type="application/json")

    async def _status(self, _: Request) -> Response:
        reading = await self.reader.fresh(within_s=_YOUNG_S, wait_s=_STATUS_WAIT_S)
        overview = reading.overview
        if overview is None or reading.is_stale(self.clock.monotonic()):
            why = reading.failure or "the state was not read in time"
            return _json({"error": {"kind": "unavailable", "why": why}}, 503)
        return _json(msgspec.to_builtins(overview))

    async def _history(self, _: Request) -> Response:
        return _json(list(zip(*self.history.points, strict=True)))

    async def _login(self, request: Request) -> Response:
        access = self.sessions.access
        if not access.has_tokens:
            raise RefusedError(404, "there is no login: no token is set")
        given = request.query_params.get("next", "/")
        back = given if given.startswith("/") and not given.startswith("//") else "/"
        failed = False
        if request.method == "POST":
            fields = await read_form(request)
            token, name = fields.get("token", ""), fields.get("name", "")
            person = access.by_token(token, name)
            if person is not None:
                cookie = self.sessions.begin(person, self.clock.epoch_ms())
                answer = RedirectResponse(f"{self.root(request)}{back}", 303)
                answer.raw_headers.append((b"set-cookie", set_cookie(request, cookie)))
                return answer
            failed = True
        status = 401 if failed else 200
        return self.page(request, "login.html", code=status, failed=failed, back=back)

    async def _refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101  # as it is registered
        facts = {"title": "Refused", "text": error.text}
        return self.page(request, "message.html", code=error.status, **facts)

    async def _failed(self, request: Request, error: Exception) -> Response:
        status, title = next(
            (status, title)
            for kind, status, title in _FAILURES
            if isinstance(error, kind)
        )
        text = str(error)
        if isinstance(error, FilterError):
            text = f"at character {error.at + 1}: {error.what}; {error.want}"
        return self.page(request, "message.html", code=status, title=title, text=text)

    async def _missing(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # as it is registered
        facts = {"title": "Not here", "text": str(error.detail)}
        return self.page(request, "message.html", code=error.status_code, **facts)


_FAILURES: Final[tuple[tuple[type[ShifterError], int, str], ...]] = (
    (UnknownSourceError, 404, "Not here"),
    (UnknownNameError, 404, "Not here"),
    (FilterError, 400, "The filter is wrong"),
    (ConfigError, 400, "This is not possible"),
    (HeldElsewhereError, 409, "Another run works on this topic"),
    (AlreadyAskedError, 409, "It was asked for before"),
    (NotTakenError, 503, "No worker took it"),
    (StoreError, 503, "A store does not answer"),
    (ShifterError, 500, "It failed"),
)
"""Status and title for an error; the first that fits, so the root of all comes last."""


def _page_number(request: Request) -> int:
    text = request.query_params.get("page", "1")
    return max(1, int(text)) if text.isdecimal() and len(text) <= 6 else 1


async def _healthz(_: Request) -> Response:
    return _json({"ok": True})


def _json(value: Mapping[str, Any] | list[Any], status: int = 200) -> Response:
    return Response(encode_line(value), status, media_type="application/json")
