"""Routes, paths and names of methods that a middleware or interceptor is made with.

``"post /x"``, ``"/x"`` and ``"POST /items/{id}"`` were accepted as job routes, and never
matched a request: the job was never submitted. A single path given as a string counted
as its characters, so that ``health="/grpc.health.v1.Health/"`` let every method pass.
Right is to refuse, at once and with the reason, what cannot match.
"""

from __future__ import annotations

import itertools

import pytest

from shifter import Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.grpc import AdmissionInterceptor

NAMES = (f"routes-{n}" for n in itertools.count())


def new_app() -> Shifter:
    name = next(NAMES)
    return Shifter(name, settings=Settings(namespace=name))


async def service(scope, receive, send) -> None: ...


def front(**options) -> AdmissionMiddleware:
    app = new_app()

    @app.job
    async def make_report() -> None: ...

    routes = options.pop("routes", ())
    return AdmissionMiddleware(
        service, app, jobs=dict.fromkeys(routes, make_report), **options
    )


@pytest.mark.parametrize(
    ("route", "want"),
    [
        ("post /x", "'POST /x'"),
        ("Post /x", "'POST /x'"),
        ("/x", "'POST /reports'"),
        ("POST", "'POST /reports'"),
        ("", "'POST /reports'"),
        ("POST  /x", "'POST /reports'"),
        (" POST /x", "'POST /reports'"),
        ("POST /x ", "'POST /reports'"),
        ("POST\t/x", "'POST /reports'"),
        ("POST,GET /x", "upper case"),
        ("POST x", "begins with '/'"),
        ("POST http://web/x", "begins with '/'"),
        ("POST /items/{id}", "compared as a whole"),
        ("POST /items/{id:int}", "compared as a whole"),
        ("POST /items/<id>", "compared as a whole"),
        ("POST /items/:id", "compared as a whole"),
        ("POST /items/*", "compared as a whole"),
        ("POST /x?mode=fast", "without its query"),
        ("POST /x#top", "without its query"),
        ("POST /gr%C3%B6%C3%9Fe", "compared decoded"),
        ("POST /healthz", "health check"),
        (("POST", "/x"), "'POST /reports'"),
    ],
)
def test_route_that_never_matches_is_refused_with_the_reason(route, want):
    with pytest.raises(ConfigError, match="jobs is ") as caught:
        front(routes=[route])

    assert want in str(caught.value)


@pytest.mark.parametrize(
    "route",
    [
        "POST /x",
        "POST /",
        "PUT /größe",
        "POST /items:batch",
        "M-SEARCH /x",
        "POST /100%",
        "POST /a/b.c/~d/",
    ],
)
def test_route_that_can_match_is_accepted(route):
    front(routes=[route])


def test_job_of_a_route_has_to_be_one():
    with pytest.raises(ConfigError, match=r"made by app\.job"):
        AdmissionMiddleware(service, new_app(), jobs={"POST /x": service})


@pytest.mark.parametrize(
    "options",
    [
        {"health": "/healthz"},
        {"health": ["healthz"]},
        {"health": ["/healthz?full"]},
        {"status_path": "jobs"},
        {"status_path": "/"},
        {"status_path": ""},
        {"status_path": "/jobs/{id}"},
    ],
)
def test_path_that_never_matches_is_refused(options):
    [field] = options

    with pytest.raises(ConfigError, match=f"{field} is "):
        front(**options)


@pytest.mark.parametrize(
    "health", ["/grpc.health.v1.Health/", ["grpc.health.v1.Health"], ["/"], [""]]
)
def test_beginnings_of_methods_that_would_let_all_or_none_pass_are_refused(health):
    with pytest.raises(ConfigError, match="health is "):
        AdmissionInterceptor(new_app(), health=health)
