"""A limit of the lines that a program's own logging writes, by kind.

A handler that logs a line for each of 10,000 records would fill a disk with them. So a
number of lines of a kind is written in a window; the others are counted, and at the end
of the window one line has the count. Lines of a kind have the level, the logger, the
job and the text in common. Numbers in a text do not distinguish it: a text is often
formatted before it is logged.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from shifter.runtime.forking import renew_in_child
from shifter.telemetry.log import MAX_KINDS, WINDOW_S, Event, Log, job_fields

_NUMBER: Final = re.compile(r"\d+")
_MOST: Final = 200
"""Characters of a text that are compared."""
_LEVELS: Final = logging.getLevelNamesMapping()
TAKEN: Final = "shifter_taken"
"""Attribute of a record that has been counted: whether it is written."""


class Kind(NamedTuple):
    """What lines of one kind have in common; a field that is empty was not compared."""

    level: int
    logger: str
    job: str
    text: str


class LineLimit:
    """Counts lines by kind. Safe to share between threads, and across forks.

    Args:
        most: Lines of a kind in a window, >= 1.
        now: Monotonic seconds.
    """

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:  # noqa: TID251  # no clock reaches a logging call
        self._most, self._now = most, now
        self.renew()
        renew_in_child(self.renew)

    def renew(self) -> None:
        """Begin anew, since lock, counts and timer are those of the parent."""
        self._lock = threading.Lock()
        self._counts: dict[Kind, int] = {}
        self._ends = 0.0
        self._timer: threading.Timer | None = None

    def takes(self, level: int, text: object, *, logger: str = "", job: object) -> bool:
        """Count a line; returns whether it is to be written.

        Args:
            level: As of the standard library.
            text: Its text, before arguments are put in; any object.
            logger: Name of the standard library's logger.
            job: Type of the job that writes it, if there is one.
        """
        name = text if isinstance(text, str) else type(text).__name__
        name = _NUMBER.sub("#", name[:_MOST])
        kind = Kind(level, logger, job if isinstance(job, str) else "", name)
        ended: dict[Kind, int] = {}
        with self._lock:
            if self._now() >= self._ends:
                ended = self._next_window()
            if kind not in self._counts and len(self._counts) >= MAX_KINDS:
                kind = Kind(level, "", "", "")
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            if count > self._most and self._timer is None:
                self._timer = threading.Timer(WINDOW_S, self.end_window)
                self._timer.daemon = True
                self._timer.start()
        self._report(ended)
        return count <= self._most

    def end_window(self) -> None:
        """Write how many lines of each kind were left out, and begin a window."""
        with self._lock:
            ended = self._next_window()
        self._report(ended)

    def close(self) -> None:
        """Write nothing more."""
        with self._lock:
            self._next_window()

    def _next_window(self) -> dict[Kind, int]:
        ended, self._counts = self._counts, {}
        self._ends = self._now() + WINDOW_S
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return ended

    def _report(self, ended: dict[Kind, int]) -> None:
        for kind, count in ended.items():
            if count <= self._most:
                continue
            names = {"logger": kind.logger, "job": kind.job}
            facts = {name: value for name, value in names.items() if value}
            # A count is not worth a job, or a traceback at the end of the process.
            with contextlib.suppress(OSError, ValueError):
                Log().write(
                    kind.level,
                    Event.LINES_LEFT_OUT,
                    of=kind.text or "other lines",
                    count=count - self._most,
                    **facts,
                )


class RecordLimit(logging.Filter):
    """Passes the records of the standard library's loggers that a limit takes.

    Args:
        limit: Shared with the loggers of structlog.
    """

    def __init__(self, limit: LineLimit) -> None:
        super().__init__()
        self._limit = limit

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be written; each is counted by one handler only."""
        taken = getattr(record, TAKEN, None)
        if taken is None:
            job: object = None
            # The fields of a job are of its own making.
            with contextlib.suppress(Exception):
                job = job_fields().get("job")
            taken = self._limit.takes(
                record.levelno, record.msg, logger=record.name, job=job
            )
            setattr(record, TAKEN, taken)
        return bool(taken)


def level_of(method: str) -> int:
    """The level that a method of a logger writes at.

    >>> level_of("warning"), level_of("exception")
    (30, 40)
    """
    return _LEVELS.get(method.upper(), logging.ERROR)
