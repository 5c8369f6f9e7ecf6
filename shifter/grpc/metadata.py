"""Metadata that one service sends with a call to the next; checked where it is read.

gRPC itself sends the deadline (``grpc-timeout``). This package adds the priority and a
draw within it, so that all calls of one request are admitted or refused alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from shifter.jobs.request_scope import HEIGHT_HEADER, PREVIOUS_HEADER, Ambient
from shifter.model.lane import LEVELS_PER_PRIORITY, Priority
from shifter.telemetry.trace_context import caller_trace
from shifter.wire.headers import Headers

PRIORITY: Final = "shifter-priority"
ATTEMPTS: Final = "grpc-previous-rpc-attempts"
PUSHBACK: Final = "grpc-retry-pushback-ms"
# gRPC proposal A6: the push-back is a signed number of 32 bits, below 0 for never.
_MAX_PUSHBACK_MS: Final = 2**31 - 1
# Nine digits fit 32 bits; more digits are no count of attempts.
_DIGITS: Final = 9


class CallerMetadata(NamedTuple):
    """The facts that a caller sent.

    Attributes:
        priority: ``None`` if it sent none.
        draw: Its rank within the priority, from [0, 1); ``None`` if it sent none.
        is_retry: Whether the call is a retry by gRPC's count, or made on behalf of one.
        trace: Its ``traceparent``, and the headers beside it.
    """

    priority: Priority | None
    draw: float | None
    is_retry: bool
    trace: tuple[str | None, Headers] = (None, [])


def read_metadata(
    pairs: Iterable[tuple[str, str | bytes]], ignored: Counter[str]
) -> CallerMetadata:
    """Read a caller's metadata; values that cannot be read are ignored and counted."""
    # Binary metadata has bytes; none of the names read here is binary.
    found = {name: value for name, value in pairs if isinstance(value, str)}
    return CallerMetadata(
        _priority(found.get(PRIORITY), ignored),
        _draw(found.get(HEIGHT_HEADER), ignored),
        any(
            _number(name, found.get(name), ignored)
            for name in (ATTEMPTS, PREVIOUS_HEADER)
        ),
        caller_trace(found),
    )


def write_metadata(around: Ambient) -> list[tuple[str, str]]:
    """The metadata for a call on behalf of a request."""
    pairs = []
    if around.priority is not None:
        pairs.append((PRIORITY, around.priority.value))
    if around.height is not None:
        pairs.append((HEIGHT_HEADER, around.height))
    if around.is_retry:
        # gRPC counts its own retries; this one is the retry of the request around.
        pairs.append((PREVIOUS_HEADER, "1"))
    return pairs


def pushback(retry_after_s: float | None) -> tuple[str, str]:
    """The push-back for a refused caller: when to retry, or never.

    >>> pushback(1.5), pushback(None)
    (('grpc-retry-pushback-ms', '1500'), ('grpc-retry-pushback-ms', '-1'))
    """
    if retry_after_s is None:
        return PUSHBACK, "-1"
    return PUSHBACK, str(min(_MAX_PUSHBACK_MS, int(retry_after_s * 1_000)))


def _priority(text: str | None, ignored: Counter[str]) -> Priority | None:
    if text is None:
        return None
    try:
        return Priority(text)
    except ValueError:
        ignored[PRIORITY] += 1
        return None


def _draw(text: str | None, ignored: Counter[str]) -> float | None:
    if text is None:
        return None
    height = _number(HEIGHT_HEADER, text, ignored)
    return min(height, LEVELS_PER_PRIORITY - 1) / LEVELS_PER_PRIORITY


def _number(name: str, text: str | None, ignored: Counter[str]) -> int:
    if text is None:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return int(text)
    ignored[name] += 1
    return 0
