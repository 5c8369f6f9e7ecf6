"""The recorded arrivals, and how long each of them takes a backend."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from shifter import Priority

DATA = Path(__file__).parent / "data"
FILES = {
    "converse": DATA / "AzureLLMInferenceTrace_conv.csv",
    "complete": DATA / "AzureLLMInferenceTrace_code.csv",
}
PRIORITIES = {"converse": Priority.HIGH, "complete": Priority.LOW}
IN_TIME_S = {"converse": 1.0, "complete": 1_800.0}
"""Within how many seconds of its arrival a request must start to be of use."""


class Arrival(NamedTuple):
    """One request of the trace.

    Attributes:
        at_s: Seconds after the first request of both services.
        job: ``converse`` or ``complete``.
        context_tokens: Tokens read, >= 0.
        generated_tokens: Tokens written, >= 0.
    """

    at_s: float
    job: str
    context_tokens: int
    generated_tokens: int

    @property
    def service_s(self) -> float:
        """Seconds a slot is busy with it."""
        return service_s(self.context_tokens, self.generated_tokens)


def service_s(context_tokens: int, generated_tokens: int) -> float:
    """Seconds a backend needs: a start, then reading, then writing.

    >>> round(service_s(1_000, 100), 3)
    1.25
    """
    return 0.05 + 0.001 * context_tokens + 0.002 * generated_tokens


def read_trace(minutes: float | None = None) -> list[Arrival]:
    """Arrivals of both services on one clock, in order.

    Args:
        minutes: Only those before this many minutes; all of them if ``None``.
    """
    rows = [(job, row) for job, path in FILES.items() for row in _rows(path)]
    first = min(_instant(row[0]) for _, row in rows)
    arrivals = sorted(
        Arrival((_instant(at) - first).total_seconds(), job, int(read), int(written))
        for job, (at, read, written) in rows
    )
    if minutes is None:
        return arrivals
    return [arrival for arrival in arrivals if arrival.at_s < minutes * 60]


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row][1:]


def _instant(text: str) -> datetime:
    # seven decimals in the file; the last is always a zero
    return datetime.fromisoformat(text[:26])
