"""Rules of HTTP for transports: what may be sent again, and what an answer implies.

They are the same for every client: 429, and 503 with ``Retry-After``, ask for a pause
of the endpoint; a status of 500 or more is its failure, 501 left out, since another
endpoint would answer the same. A request that must not take effect twice is sent again
only if it never left, and one whose body is a stream never.

Sources: RFC 9110, sections 9.2.2 (methods), 10.2.3 (``Retry-After``) and 15.6.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Container
from typing import Any, Final

from shifter.balance.options import RunOptions, TryOptions
from shifter.balance.tries import remaining_s
from shifter.errors import Throttled
from shifter.jobs.request_scope import PREVIOUS_HEADER, TIMEOUT_HEADER
from shifter.model.time import write_timeout

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_TOO_MANY: Final = 429
_NOT_IMPLEMENTED: Final = 501
_UNAVAILABLE: Final = 503
_FAILED: Final = 500

_DIGITS: Final = 8
"""Longest number of seconds that is read: a hundred million are three years."""


class ThrottledAnswer(Throttled):
    """An answer that asks for a pause.

    Attributes:
        answer: The answer.
    """

    def __init__(self, answer: Any, after_s: float | None) -> None:
        self.answer = answer
        super().__init__(after_s)


def asks_for_pause(status: int, after: str | None) -> bool:
    """Whether an answer asks that the endpoint is not called for a while.

    Args:
        status: The status code.
        after: The ``Retry-After`` field; ``None`` for none.

    >>> asks_for_pause(429, None), asks_for_pause(503, "2"), asks_for_pause(503, None)
    (True, True, False)
    """
    return status == _TOO_MANY or (status == _UNAVAILABLE and after is not None)


def is_failed(status: int) -> bool:
    """Whether an answer is a failure of its endpoint.

    >>> is_failed(500), is_failed(501), is_failed(404)
    (True, False, False)
    """
    return status >= _FAILED and status != _NOT_IMPLEMENTED


def pause_s(after: str | None, date: str | None) -> float | None:
    """Seconds that a ``Retry-After`` field asks for; ``None`` if it cannot be read.

    A date counts from the server's own ``Date``, so that a clock that is wrong changes
    nothing; without that field it cannot be read.

    Args:
        after: The ``Retry-After`` field.
        date: The ``Date`` field.

    >>> pause_s("120", None), pause_s("soon", None)
    (120.0, None)
    >>> pause_s("Thu, 01 Jan 1970 00:01:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT")
    60.0
    """
    text = (after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < _DIGITS else None
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
        now = email.utils.parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, until - now)


class RequestRules:
    """What the transports for one dependency have in common.

    Args:
        key: The key of a request, for ``choice="hash"``; ``None`` for none.
        tells: Whether requests carry what time they have left, and whether they were
            sent before.
        options: How often, and how long.
        never_left: Whether an error means that a request cannot have reached its
            endpoint.

    Raises:
        ConfigError: An option is wrong.
    """

    def __init__(
        self,
        key: Callable[[Any], str | None] | None,
        options: TryOptions,
        *,
        tells: bool,
        never_left: Callable[[BaseException], bool],
    ) -> None:
        RunOptions(**options)  # checks them now, not with the first request
        self._key, self._options, self._tells = key, options, tells
        self._never_left = never_left

    def of(self, method: str, names: Container[str], *, can_resend: bool) -> TryOptions:
        """The options of a request, by whether it may be sent twice.

        Args:
            method: In upper case.
            names: Its headers, whatever their case.
            can_resend: Whether its body is there for a second time.
        """
        options = self._options.copy()
        if not can_resend:
            return {**options, "retries": 0, "hedge": None}
        if method in _REPEATABLE or "idempotency-key" in names:
            return options
        wanted, never_left = options.get("retry_if", _always), self._never_left
        options["hedge"] = None
        options["retry_if"] = lambda error: never_left(error) and wanted(error)
        return options

    def key(self, request: Any) -> str | None:
        """The key of a request."""
        return None if self._key is None else self._key(request)

    def told(self, headers: Container[str], tries: int) -> dict[str, str]:
        """Headers of one try: ``shifter-timeout`` and ``shifter-previous-attempts``.

        Args:
            headers: Those of the request; its own ``shifter-timeout`` takes precedence.
            tries: Earlier tries of the request.
        """
        told: dict[str, str] = {}
        left_s = remaining_s()
        if self._tells and left_s is not None and TIMEOUT_HEADER not in headers:
            told[TIMEOUT_HEADER] = write_timeout(int(left_s * 1_000))
        if self._tells and tries:
            told[PREVIOUS_HEADER] = str(tries)
        return told


def _always(_: BaseException) -> bool:
    return True
