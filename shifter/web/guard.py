"""The checks that every request passes before a page sees it, and safe headers.

A request that changes something must come from a page of this server: its ``Origin``
and ``Sec-Fetch-Site`` are checked, at least one of them must be sent, and its form
holds a token that only a page of this server could have written. A client with a bearer
token sends no cookie, so no page of another site can make it act.

Sources: OWASP, Cross-Site Request Forgery Prevention; W3C, Fetch Metadata; CSP level 3.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shifter.web.access import Access, Person, Role

COOKIE: Final = "shifter_web"
_AGE_S: Final = 12 * 3_600
_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_METHODS: Final = _SAFE_METHODS | {"POST"}
_MAX_FORM: Final = 65_536
PUBLIC: Final = ("/healthz", "/login", "/static/")
"""Paths that hold nothing of the namespace, so that anybody may see them."""

_WITHOUT_FORMS: Final = (
    *("/healthz", "/static/", "/api/", "/metrics", "/scale", "/events"),
)
"""Paths whose answers hold no form, so that no cookie is set for them."""

_HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; "
            b"img-src 'self'; connect-src 'self'; font-src 'self'; "
            b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # "no-referrer" would make browsers send the origin "null" with each form.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class RefusedError(Exception):
    """A request is refused.

    Attributes:
        status: Status of HTTP.
        text: The reason, shown to the client.
    """

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text
        super().__init__(text)


class _Session(msgspec.Struct, frozen=True):
    """What the cookie of a browser holds.

    Attributes:
        nonce: Random; the token of forms is made of it.
        name: Of a person who logged in with a token; else empty.
        role: Of that person.
        ends_ms: When the person has to log in again, epoch milliseconds.
    """

    nonce: str
    name: str = ""
    role: Role | None = None
    ends_ms: int = 0


class Visit(NamedTuple):
    """A request that has passed the checks.

    Attributes:
        person: Who makes it.
        csrf: Token that forms of this browser must hold.
        has_cookie: Whether the person is known by a cookie or by the connection; else
            the client sent a bearer token with this request.
    """

    person: Person
    csrf: str
    has_cookie: bool


class Sessions:
    """Signs the cookies of browsers; the key ends with the process.

    Args:
        access: Who may log in.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._key = secrets.token_bytes(32)
        self._decode = msgspec.json.Decoder(_Session).decode

    def read(self, cookie: str | None) -> _Session | None:
        """The session in a cookie; ``None`` if this process did not sign it."""
        body, _, signature = (cookie or "").rpartition(".")
        if not body or not hmac.compare_digest(self._sign(body), signature):
            return None
        try:
            return self._decode(bytes.fromhex(body))
        except (ValueError, msgspec.MsgspecError):
            return None

    def begin(self, person: Person | None, now_ms: int) -> str:
        """A cookie for a new session.

        Args:
            person: Who logged in; ``None`` for a browser that is known otherwise.
            now_ms: Epoch milliseconds.
        """
        session = _Session(secrets.token_hex(16))
        if person is not None:
            ends_ms = now_ms + _AGE_S * 1_000
            session = _Session(session.nonce, person.name, person.role, ends_ms)
        body = msgspec.json.encode(session).hex()
        return f"{body}.{self._sign(body)}"

    def csrf(self, session: _Session) -> str:
        """The token that forms of a session hold."""
        return self._sign(f"form {session.nonce}")

    def _sign(self, text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()


class Guard:
    """ASGI middleware: lets through what may pass, and adds the headers.

    Args:
        inner: The pages.
        sessions: Of browsers.
        now_ms: Reads the wall clock.
    """

    def __init__(self, inner: ASGIApp, sessions: Sessions, now_ms: Any) -> None:
        self._inner, self._sessions, self._now_ms = inner, sessions, now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection; a websocket is refused."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        request, added = Request(scope), list(_HEADERS)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                names = {name for name, _ in headers}
                headers += [pair for pair in added if pair[0] not in names]
                if b"cache-control" not in names:
                    # Browsers keep a file, but ask whether it is still the same.
                    is_file = _path(request).startswith("/static/")
                    kept = b"no-cache" if is_file else b"no-store"
                    headers.append((b"cache-control", kept))
                message = {**message, "headers": headers}
            await send(message)

        try:
            answer = self._check(request, added)
        except RefusedError as error:
            answer = PlainTextResponse(f"{error.text}\n", error.status)
        await (answer or self._inner)(scope, receive, sending)

    def _check(
        self, request: Request, added: list[tuple[bytes, bytes]]
    ) -> Response | None:
        """Return an answer, or ``None`` to let the request pass.

        Raises:
            RefusedError: It may not pass.
        """
        if request.method not in _METHODS:
            raise RefusedError(405, "use GET or POST")
        if request.method not in _SAFE_METHODS:
            _check_source(request)
        path = _path(request)
        session = self._sessions.read(request.cookies.get(COOKIE))
        person, has_cookie = self._person(request, session)
        if person is None and not path.startswith(PUBLIC):
            return self._refuse(request)
        if session is None and has_cookie and not path.startswith(_WITHOUT_FORMS):
            cookie = self._sessions.begin(None, self._now_ms())
            session = self._sessions.read(cookie)
            added.append((b"set-cookie", set_cookie(request, cookie)))
        csrf = "" if session is None else self._sessions.csrf(session)
        nobody = Person("", Role.READ)
        request.scope["shifter_visit"] = Visit(person or nobody, csrf, has_cookie)
        return None

    def _person(
        self, request: Request, session: _Session | None
    ) -> tuple[Person | None, bool]:
        """Who makes a request, and whether a cookie or the connection shows it."""
        access, headers = self._sessions.access, _headers(request)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return access.by_token(token.strip()), False
        if session is not None and session.role is not None:
            if session.ends_ms > self._now_ms():
                return Person(session.name, session.role), True
            return None, True
        peer = "" if request.client is None else request.client.host
        return access.by_proxy(peer, headers) or access.local(peer, headers), True

    def _refuse(self, request: Request) -> Response:
        access = self._sessions.access
        if access.is_open:
            raise RefusedError(
                403,
                "without authentication this page answers only direct requests from "
                "the same machine, by the name localhost or 127.0.0.1",
            )
        wants_page = "text/html" in request.headers.get("accept", "")
        if access.has_tokens and wants_page and request.method == "GET":
            back = quote(_path(request), safe="/")
            return RedirectResponse(f"{_root(request)}/login?next={back}", 303)
        raise RefusedError(401, "log in, or send a bearer token")


def visit_of(request: Request) -> Visit:
    """The visit that a request that has passed belongs to."""
    found: Visit = request.scope["shifter_visit"]
    return found


def check_operator(request: Request) -> Person:
    """The person of a request, who may operate.

    Raises:
        RefusedError: The person may only read.
    """
    person = visit_of(request).person
    if not person.may_operate:
        raise RefusedError(403, "the role 'read' may change nothing")
    return person


def read_reason(fields: Mapping[str, str], use: str = "shown to everybody") -> str:
    """The reason that a form gives.

    Args:
        fields: Of the form.
        use: What becomes of the reason, for a person who gave none.

    Raises:
        RefusedError: There is none.
    """
    reason = fields.get("reason", "").strip()
    if not reason:
        raise RefusedError(400, f"say why: the reason is {use}")
    return reason


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a form whose token is right.

    Raises:
        RefusedError: The form is too large, or its token is wrong.
    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_FORM:
            raise RefusedError(413, f"a form may have {_MAX_FORM} bytes")
    fields = dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    visit = visit_of(request)
    token = request.headers.get("x-csrf-token") or fields.pop("csrf", "")
    is_same = hmac.compare_digest(visit.csrf.encode(), token.encode())
    if visit.has_cookie and not (visit.csrf and is_same):
        raise RefusedError(403, "this form is of an earlier session: load it again")
    return fields


def set_cookie(request: Request, value: str) -> bytes:
    """The value of a ``Set-Cookie`` header for this server's own pages."""
    secure = "; Secure" if request.url.scheme == "https" else ""
    path = _root(request) or "/"
    text = f"{COOKIE}={value}; Path={path}; HttpOnly; SameSite=Strict{secure}"
    return text.encode("latin-1")


def _check_source(request: Request) -> None:
    """Return if a page of this server, or no browser's page, makes the request.

    Raises:
        RefusedError: Another site makes it, or nothing shows which one.
    """
    headers = _headers(request)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site not in (None, "same-origin"):
        raise RefusedError(403, f"the request comes from a page that is {site}")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise RefusedError(403, "the request comes from another origin")
    is_bearer = headers.get("authorization", "").lower().startswith("bearer ")
    if site is None and origin is None and not is_bearer:
        raise RefusedError(403, "the request shows no origin")


def _headers(request: Request) -> dict[str, str]:
    """Headers by lower-case name; values of one that is sent twice are joined."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _path(request: Request) -> str:
    """The path below the place where the page is mounted."""
    path: str = request.scope["path"]
    return path.removeprefix(_root(request)) or "/"


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")
