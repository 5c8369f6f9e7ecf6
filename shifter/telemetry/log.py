"""Log events: their names, and the one way this package writes their lines.

Cheap to import and to hold: structlog, whose import takes 0.15 s, is used when the
process has configured it, and never loaded from here. Do not log one line a job at a
level that is on by default: ask `Log.is_on` once a batch.

A topic full of bad records must not fill the disk with log lines. So `LimitedLog`
writes each kind of line (an event and the values that distinguish its causes) a number
of times a window; further lines are counted, and the count is written at the end of the
window.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from enum import StrEnum
from typing import Any, Final, TypeAlias

from shifter.wire.untrusted import printable

_LIMIT: Final = 300
"""Characters of a field in a line of the standard library's logger."""
LINES: Final = 20
"""Lines of a kind in a window; more repeat what a reader has seen."""

WINDOW_S: Final = 10.0

MAX_KINDS: Final = 200
"""Kinds that are distinguished at once; further ones share the window of their event.

Causes come from records, and any producer may write those.
"""


JobFields: TypeAlias = Callable[[], Mapping[str, object]]
"""Gives the fields that identify a job. Called once a line, so that a job that writes
none costs one context variable."""

_JOB: Final[ContextVar[JobFields | None]] = ContextVar("shifter_log", default=None)


def log_as_job(fields: JobFields) -> None:
    """Let each line from here to the end of this task carry the fields of a job.

    Threads that are given a copy of the context carry them too.
    """
    _JOB.set(fields)


class LoggingAsJob(AbstractContextManager[None]):
    """`log_as_job` while a block runs.

    A class, since a generator takes twice as long.
    """

    __slots__ = ("_fields", "_token")

    def __init__(self, fields: JobFields) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._token = _JOB.set(self._fields)

    def __exit__(self, *_: object) -> None:
        _JOB.reset(self._token)


def job_fields() -> Mapping[str, object]:
    """``job_id``, ``job``, ``attempt`` and ``trace_id`` of the handler that runs.

    For a logging filter or a structlog processor of a service's own. It is empty
    outside of a handler, and has no ``trace_id`` where there is no trace.
    """
    fields = _JOB.get()
    return {} if fields is None else fields()


class Event(StrEnum):
    """Every event this package logs: ``room.what_happened``, in the past tense.

    The value is published; it stays when a member is renamed.
    """

    # the life of a worker
    WORKER_STARTED = "worker.started"
    WORKER_DRAINING = "worker.draining"
    WORKER_DRAIN_ORDERED = "worker.drain_ordered"
    PROCESS_DRAINED = "process.drained"
    WORKER_FAILED = "worker.failed"
    THREAD_FAILED = "process.thread_failed"
    PROCESS_ENDED = "process.ended"
    HEALTH_SERVED = "health.served"
    PROCESS_STALLED = "process.stalled"
    BURST_PROGRESSED = "burst.progressed"
    # one job
    ATTEMPT_STUCK = "attempt.stuck"
    JOB_ENDED = "job.ended"
    JOB_RETRIED = "job.retried"
    JOB_DEAD_LETTERED = "job.dead_lettered"
    KEY_DOUBTED = "job.key_doubted"
    RESULT_LEFT_OUT = "job.result_left_out"
    JOB_MISFIT = "job.misfit"
    HEADERS_DROPPED = "job.headers_dropped"
    # claims
    CLAIM_LOST = "claim.lost"
    CLAIMS_UNAVAILABLE = "claims.unavailable"
    CLAIMS_RECOVERED = "claims.recovered"
    PRESENCE_UNAVAILABLE = "presence.unavailable"
    LANES_UNREAD = "lanes.unread"
    # dependencies
    CIRCUIT_OPENED = "circuit.opened"
    CIRCUIT_PROBED = "circuit.probed"
    CIRCUIT_CLOSED = "circuit.closed"
    CALLBACK_FAILED = "circuit.callback_failed"
    ENDPOINT_DRAINED = "endpoint.drained"
    ENDPOINT_EJECTED = "endpoint.ejected"
    ENDPOINT_RESTORED = "endpoint.restored"
    ENDPOINTS_FOUND = "endpoints.found"
    LOOKUP_FAILED = "endpoints.lookup_failed"
    FLEET_STRANGE = "fleet.strange"
    # decisions
    ADMISSION_COUNTED = "admission.counted"
    SIGNAL_FAILED = "admission.signal_failed"
    # the log
    LOG_CLIENT_REPORTED = "log.client_said"
    RECORDS_LOST = "log.records_lost"
    APPEND_REFUSED = "log.append_refused"
    RECORDS_UNANSWERED = "log.records_unanswered"
    # traces
    SPAN_FAILED = "span.failed"
    # events of jobs
    EVENTS_LOST = "events.lost"
    # log lines themselves
    LINES_LEFT_OUT = "lines.left_out"
    # operators
    OPERATOR_ACTED = "operator.acted"
    # settings
    SETTING_DOUBTED = "config.doubted"


class Log:
    """Writes events with fixed fields. Safe to share between tasks and threads.

    Args:
        fields: Added to each line, e.g. ``worker_id``.
    """

    __slots__ = ("_bound", "_factory", "_fields")

    def __init__(self, **fields: object) -> None:
        self._fields = fields
        self._bound: Any = None
        self._factory: object = None

    def debug(self, event: Event, **fields: object) -> None:
        """Details for debugging."""
        self.write(logging.DEBUG, event, **fields)

    def info(self, event: Event, **fields: object) -> None:
        """Ordinary events, a few lines a minute."""
        self.write(logging.INFO, event, **fields)

    def warning(self, event: Event, **fields: object) -> None:
        """A fault that this package handles by itself."""
        self.write(logging.WARNING, event, **fields)

    def error(self, event: Event, **fields: object) -> None:
        """A fault that needs an operator; ``exc_info=error`` adds the traceback."""
        self.write(logging.ERROR, event, **fields)

    def is_on(self, level: int) -> bool:
        """Whether lines of this level are written at all."""
        bound = self._structlog()
        if bound is None:
            return _fallback().isEnabledFor(level)
        asked = getattr(bound, "is_enabled_for", None)
        return True if asked is None else bool(asked(level))

    def write(self, level: int, event: Event, /, **fields: Any) -> None:
        """A line of a level that is known at run time only."""
        bound = self._structlog()
        if bound is not None:
            bound.log(level, event.value, **fields)
            return
        logger = _fallback()
        if logger.isEnabledFor(level):
            fields = {**self._fields, **fields}
            error = fields.pop("exc_info", None)
            text = " ".join(f"{name}={_shown(fields[name])}" for name in fields)
            extra = {"shifter": fields}
            logger.log(level, "%s %s", event.value, text, exc_info=error, extra=extra)

    def _structlog(self) -> Any:
        structlog = sys.modules.get("structlog")
        if structlog is None or not structlog.is_configured():
            return None
        # Binding costs 5 µs a line, so it is done again only after the process
        # has configured structlog anew.
        factory = structlog.get_config()["logger_factory"]
        if factory is not self._factory:
            self._bound = structlog.get_logger().bind(**self._fields)
            self._factory = factory
        return self._bound


class _Window:
    """The lines of one kind since an instant."""

    __slots__ = ("facts", "left_out", "level", "since", "written")

    def __init__(self, level: int, facts: dict[str, Any], since: float) -> None:
        self.level, self.facts, self.since = level, facts, since
        self.written = self.left_out = 0


class LimitedLog:
    """A log that writes at most `LINES` lines of a kind in `WINDOW_S` seconds.

    Owned by one thread. Its owner calls `write_left_out` every few seconds.

    Args:
        log: Where lines go.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._windows: dict[tuple[Event, tuple[str, ...]], _Window] = {}

    def write(
        self,
        level: int,
        event: Event,
        facts: dict[str, Any],
        *,
        by: tuple[str, ...],
        now: float,
        most: int = LINES,
    ) -> None:
        """Write a line, or count it where there were enough of its kind.

        Args:
            level: As of the standard library.
            event: What happened.
            facts: The line's fields.
            by: Names of the fields that distinguish causes.
            now: Monotonic seconds.
            most: Lines of the kind in a window, >= 1.
        """
        causes = {name: facts[name] for name in by if name in facts}
        if self.take(level, event, causes, now=now, most=most):
            self._log.write(level, event, **facts)

    def take(
        self,
        level: int,
        event: Event,
        causes: dict[str, Any],
        *,
        now: float,
        count: int = 1,
        most: int = LINES,
    ) -> int:
        """How many lines of a kind the caller may write; the others are counted.

        Args:
            level: As of the standard library.
            event: What happened.
            causes: The fields that distinguish the kind, with their values.
            now: Monotonic seconds.
            count: Lines that the caller has, >= 1.
            most: Lines of the kind in a window, >= 1.
        """
        kind = (event, tuple(map(str, causes.values())))
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                kind, causes = (event, ()), {}
            window = self._windows.setdefault(kind, _Window(level, causes, now))
        elif now >= window.since + WINDOW_S:
            self._close(event, window)
            window = self._windows[kind] = _Window(level, causes, now)
        taken = min(count, max(0, most - window.written))
        window.written += taken
        window.left_out += count - taken
        return taken

    def write_left_out(self, now: float) -> None:
        """Write how many lines were left out of windows that have ended."""
        for kind, window in list(self._windows.items()):
            if now >= window.since + WINDOW_S:
                del self._windows[kind]
                self._close(kind[0], window)

    def close(self) -> None:
        """Write the counts so far, since the process ends."""
        self.write_left_out(float("inf"))

    def _close(self, event: Event, window: _Window) -> None:
        if window.left_out:
            self._log.write(
                window.level,
                Event.LINES_LEFT_OUT,
                of=event.value,
                count=window.left_out,
                **window.facts,
            )


def _fallback() -> logging.Logger:
    return logging.getLogger("shifter")  # noqa: TID251  # the one place that may


def _shown(value: object) -> str:
    return printable(str(value), _LIMIT)
