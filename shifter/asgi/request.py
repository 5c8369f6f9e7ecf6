"""Reads the headers and the path of a request, and writes headers of calls it makes.

A caller may state the priority of its request, but never ``CRITICAL``, and how long it
will wait, but not for ever. A header that cannot be read is ignored, a value beyond its
bounds is cut, and both are counted. A request whose key cannot be read is answered 400.

The deadline is sent as a duration, so that clocks need not agree. A mounted
application, or one behind a proxy, is called below a prefix, ``root_path``: paths are
compared without it.

Source: the ASGI specification's ``root_path``; Starlette's ``get_route_path``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from shifter.api.app import Shifter
from shifter.jobs.request_scope import (
    HEIGHT_HEADER,
    PREVIOUS_HEADER,
    TIMEOUT_HEADER,
    ambient,
    left_to_call_ms,
)
from shifter.model.lane import LEVELS_PER_PRIORITY, Priority
from shifter.model.time import MAX_DURATION_MS, read_timeout, write_timeout

_URGENCY: Final = re.compile(r"(?:\A|,)\s*u=([0-7])\s*(?=,|;|\Z)")
_KEY: Final = re.compile(rb'(?P<quote>"?)([\x21\x23-\x5b\x5d-\x7e]{1,255})(?P=quote)')
_KEY_HEADER: Final = b"idempotency-key"
# RFC 9218: urgency 0 is the highest, 7 the lowest, and 3 stands for a request without
# the header, so that 3 is NORMAL.
_HIGHEST: Final = 1
_LOWEST: Final = 5
# The headers read here have a few dozen bytes; a longer one would only cost time.
_MAX_HEADER: Final = 512
_HEIGHTS: Final = frozenset(map(str, range(LEVELS_PER_PRIORITY)))
_TIMEOUTS: Final = (TIMEOUT_HEADER, "grpc-timeout")
# Value of the first attempt: Envoy counts attempts, the others count earlier ones.
_FIRST: Final = {
    PREVIOUS_HEADER: 0,
    "grpc-previous-rpc-attempts": 0,
    "x-envoy-attempt-count": 1,
}
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_READ: Final = frozenset({"priority", HEIGHT_HEADER, *_TIMEOUTS, *_FIRST})
_URGENCIES: Final = {
    Priority.CRITICAL: "u=0",
    Priority.HIGH: "u=1",
    Priority.NORMAL: "u=3",
    Priority.LOW: "u=5",
}


class Request(NamedTuple):
    """One request, as a classifier sees it.

    Attributes:
        method: In upper case.
        path: Without its query, and without the root path.
        headers: By lower-case name; the last of several.
        root_path: The prefix of a mounted service, without a slash at its end.
        scope: The scope of ASGI with the additions of other middleware, such as the
            authenticated user.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    root_path: str = ""
    scope: Mapping[str, Any] = {}  # never written


def read_request(scope: Mapping[str, Any], ignored: Counter[str]) -> Request:
    """The request in an ASGI scope; headers longer than 512 bytes are left out."""
    headers = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if len(value) <= _MAX_HEADER:
            headers[name] = value.decode("latin-1")
        elif name in _READ:  # a counter of all names would be the caller's to fill
            ignored[name] += 1
    root_path, path = path_below(scope)
    return Request(scope["method"], path, headers, root_path, scope)


def read_priority(request: Request, ignored: Counter[str]) -> Priority | None:
    """The priority in the ``Priority`` header of RFC 9218; ``None`` without one.

    Urgency 0 and 1 are ``HIGH``, 5 to 7 ``LOW``, between them ``NORMAL``.
    """
    text = request.headers.get("priority")
    if text is None:
        return None
    match = _URGENCY.search(text)
    if match is None:
        ignored["priority"] += 1
        return None
    urgency = int(match[1])
    if urgency <= _HIGHEST:
        return Priority.HIGH
    return Priority.LOW if urgency >= _LOWEST else Priority.NORMAL


def read_left_ms(request: Request, ignored: Counter[str]) -> int | None:
    """How long the caller will wait; ``None`` if it does not state it."""
    for name in _TIMEOUTS:
        text = request.headers.get(name)
        if text is not None:
            left_ms = read_timeout(text)
            # The longest duration is a longer one that was cut, so it counts as well.
            if left_ms is None or left_ms == MAX_DURATION_MS:
                ignored[name] += 1
            return left_ms
    return None


def read_is_retry(request: Request, ignored: Counter[str]) -> bool:
    """Whether the request is a retry, as its caller or a proxy counts."""
    is_retry = False
    for name, first in _FIRST.items():
        text = request.headers.get(name)
        if text is None:
            continue
        if _COUNT.fullmatch(text) is None:
            ignored[name] += 1
        elif int(text) > first:
            is_retry = True
    return is_retry


def read_draw(request: Request, ignored: Counter[str]) -> float | None:
    """The caller's draw, its rank within a priority; ``None`` without one."""
    text = request.headers.get(HEIGHT_HEADER)
    if text is None:
        return None
    if text not in _HEIGHTS:
        ignored[HEIGHT_HEADER] += 1
        return None
    return int(text) / LEVELS_PER_PRIORITY


def read_key(scope: Mapping[str, Any]) -> str | None:
    """The ``Idempotency-Key``, with or without quotes; ``None`` without one.

    Raises:
        ValueError: It cannot be read, or there are several; without it a request that
            is sent again would take effect again.
    """
    given = {raw for name, raw in scope["headers"] if name.lower() == _KEY_HEADER}
    if not given:
        return None
    match = _KEY.fullmatch(given.pop())
    if match is None or given:
        raise ValueError("use it once, with 1-255 visible ASCII characters")
    return match[2].decode()


def wants_async(request: Request) -> bool:
    """Whether the caller prefers an asynchronous answer (RFC 7240)."""
    preferences = request.headers.get("prefer", "").lower().split(",")
    return any(p.split(";")[0].strip() == "respond-async" for p in preferences)


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


def calling(app: Shifter, *, previous_attempts: int = 0) -> dict[str, str]:
    """Headers of a call made on behalf of the current request; empty outside of one.

    Args:
        app: Its clock measures what is left of the deadline.
        previous_attempts: How often this call was made before, >= 0. The called service
            charges a retry to its budget. Calls on behalf of a request that is a retry
            count as retries in any case.

    Raises:
        DeadlineExceededError: The deadline has passed, so the call cannot help.
    """
    around = ambient()
    left_ms = left_to_call_ms(app.publisher.clock.epoch_ms(), "over HTTP")
    headers, previous = {}, max(previous_attempts, int(around.is_retry))
    if previous:
        headers[PREVIOUS_HEADER] = str(previous)
    if left_ms is not None:
        headers[TIMEOUT_HEADER] = write_timeout(left_ms)
    if around.priority is not None:
        headers["priority"] = _URGENCIES[around.priority]
    if around.height is not None:
        headers[HEIGHT_HEADER] = around.height
    return headers
