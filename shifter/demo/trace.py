"""The recorded arrivals that are played, and how long each keeps the backend busy.

Ten minutes of two inference services, with the worst minute of the hour and a spike in
the second minute, so that a short run sees one too. Credit: ``data/CREDIT.md``.
"""

from __future__ import annotations

import csv
import gzip
from importlib.resources import files
from typing import Final, NamedTuple

from shifter.model.lane import Priority

LENGTH_S: Final = 600.0
"""Seconds of the recording."""

CONVERSATION: Final = "conversation"
COMPLETION: Final = "completion"

_EVERY_CRITICAL: Final = 10
_EVERY_NORMAL: Final = 5


class Arrival(NamedTuple):
    """One request of the recording.

    Attributes:
        at_s: Seconds after the recording's beginning, >= 0.
        kind: ``conversation`` or ``completion``.
        priority: By the rule of `read_trace`.
        context_tokens: Tokens read, >= 0.
        generated_tokens: Tokens written, >= 0.
    """

    at_s: float
    kind: str
    priority: Priority
    context_tokens: int
    generated_tokens: int


def service_s(context_tokens: int, generated_tokens: int) -> float:
    """Seconds a slot of the backend is busy: a start, then reading, then writing.

    >>> round(service_s(1_000, 100), 3)
    1.25
    """
    return 0.05 + 0.001 * context_tokens + 0.002 * generated_tokens


def read_trace() -> list[Arrival]:
    """The arrivals, in order.

    People who chat are ``HIGH``, every tenth of them ``CRITICAL``; code completion is
    ``LOW``, every fifth of it ``NORMAL``. The recording itself knows no priorities.
    """
    packed = files("shifter.demo").joinpath("data", "arrivals.csv.gz").read_bytes()
    rows = csv.DictReader(gzip.decompress(packed).decode().splitlines())
    seen = {CONVERSATION: 0, COMPLETION: 0}
    arrivals = []
    for row in rows:
        kind = row["kind"]
        seen[kind] += 1
        arrivals.append(
            Arrival(
                int(row["at_ms"]) / 1_000,
                kind,
                _priority(kind, seen[kind]),
                int(row["context_tokens"]),
                int(row["generated_tokens"]),
            )
        )
    return arrivals


def _priority(kind: str, number: int) -> Priority:
    if kind == CONVERSATION:
        return Priority.HIGH if number % _EVERY_CRITICAL else Priority.CRITICAL
    return Priority.LOW if number % _EVERY_NORMAL else Priority.NORMAL
