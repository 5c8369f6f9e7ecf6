"""Paths as the service sees them, and as its clients see them.

A mounted application, or one behind a proxy, is called below a prefix, ``root_path``.
Routes are compared without it; every place that a client is sent to has it.

Source: the ASGI specification's ``root_path``; Starlette's ``get_route_path``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from shifter.api.job import Job
from shifter.errors import ConfigError

_RESERVED: Final = "/:?#[]@!$&'()*+,;=%"
_ROUTE: Final = re.compile(r"(?P<method>[^\s]+) (?P<path>[^\s]+)")
_METHOD: Final = re.compile(r"[A-Z][A-Z-]*")
_TEMPLATE: Final = re.compile(r"[{}<>*]|/:")
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")


def path_below(scope: Mapping[str, Any]) -> tuple[str, str]:
    """The root path of a request, and its path below.

    >>> path_below({"path": "/v1/reports", "root_path": "/v1"})
    ('/v1', '/reports')
    >>> path_below({"path": "/v10/reports", "root_path": "/v1"})
    ('/v1', '/v10/reports')
    """
    given, path = scope.get("root_path", ""), scope["path"]
    if not given:
        return "", path or "/"
    root_path = given.rstrip("/")
    # A server puts its root path before the path with all its slashes.
    for prefix in (given, root_path):
        if path == prefix or path.startswith(f"{prefix}/"):
            return root_path, path[len(prefix) :] or "/"
    return root_path, path


def place(root_path: str, path: str) -> str:
    """The path under which clients find a path of the service; URLs are unchanged.

    >>> place("/v1", "/jobs/7"), place("/v1", "https://cdn.example/7")
    ('/v1/jobs/7', 'https://cdn.example/7')
    """
    is_own = path.startswith("/") and not path.startswith("//")
    if is_own and not path.startswith(f"{root_path}/"):
        path = quote(root_path, safe="/") + path
    return quote(path, safe=_RESERVED)


def check_paths(field: str, paths: Iterable[str]) -> frozenset[str]:
    """Check that requests can have these paths.

    Raises:
        ConfigError: One of them never matches, or is no path.
    """
    if isinstance(paths, str):
        raise ConfigError(field, paths, f"use a collection of paths: [{paths!r}]")
    return frozenset(_checked(field, path, path) for path in paths)


def check_routes(
    routes: Mapping[Any, Any], health: Iterable[str]
) -> dict[str, Job[..., Any]]:
    """Check the routes of jobs.

    Args:
        routes: ``"POST /reports"`` to a job.
        health: Paths that pass before any route is looked at.

    Raises:
        ConfigError: A route never matches, or its job is none.
    """
    passing = frozenset(health)
    for route, job in routes.items():
        match = _ROUTE.fullmatch(route) if isinstance(route, str) else None
        if match is None:
            want = "use a method, a space and a path, such as 'POST /reports'"
            raise ConfigError("jobs", route, want)
        method, path = match["method"], match["path"]
        if _METHOD.fullmatch(method) is None:
            want = f"a method is in upper case: {f'{method.upper()} {path}'!r}"
            raise ConfigError("jobs", route, want)
        if _checked("jobs", route, path) in passing:
            want = "a health check passes before it; use another path"
            raise ConfigError("jobs", route, want)
        if not isinstance(job, Job):
            want = f"{route!r} wants a job, made by app.job"
            raise ConfigError("jobs", job, want)
    return dict(routes)


def _checked(field: str, given: object, path: object) -> str:
    """The path, if a request can have it."""
    want = None
    if not isinstance(path, str) or not path.startswith("/"):
        want = "a path begins with '/'"
    elif _TEMPLATE.search(path):
        want = "a path is compared as a whole; send what varies in the body"
    elif "?" in path or "#" in path:
        want = "a path is without its query"
    elif _ENCODED.search(path):
        want = "a path is compared decoded; write the characters themselves"
    if want is not None:
        raise ConfigError(field, given, want)
    return str(path)
