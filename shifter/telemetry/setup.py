"""Log lines as JSON, or as text on a terminal. Called by the command line only.

A library that configures logging when it is imported takes that choice from the
program that uses it, so nothing here runs on import.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Final, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import ExcInfo, Processor

from shifter.telemetry.line_limit import LineLimit, level_of
from shifter.telemetry.log import Event, job_fields
from shifter.telemetry.records import format_records, unused_name
from shifter.wire.untrusted import encode_line, printable

_MAX_FIELD: Final = 2_000
_MAX_FRAMES: Final = 20
_OURS: Final = frozenset(event.value for event in Event)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: str, log_format: str, out: TextIO, lines: int = 0) -> None:
    """Send log lines of this process to a stream.

    Args:
        level: The lowest level written: ``debug``, ``info``, ``warning``, ``error``.
        log_format: ``json``, ``console``, or ``auto``: console on a terminal.
        out: The stream; not standard output, which carries data.
        lines: Lines of one kind in a window of 10 s, of the program's own loggers;
            0: all of them.
    """
    limit = _new_limit(lines)
    is_console = log_format == "console" or (log_format == "auto" and out.isatty())
    of_job: list[Processor] = [structlog.contextvars.merge_contextvars, _with_job]
    written: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *(_console(out) if is_console else _json()),
    ]
    limited = [] if limit is None else [_limited(limit)]
    structlog.configure(
        processors=[*of_job, *limited, *written],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_factory(out, is_console=is_console),
        # Loggers are fetched anew by `shifter.telemetry.log`; caching would freeze the
        # first configuration into those of user code.
        cache_logger_on_first_use=False,
    )
    format_records([*of_job, *written], _LEVELS[level], out, limit)


_LIMITS: Final[list[LineLimit]] = []
"""The limit of this process, if there is one."""


def _new_limit(lines: int) -> LineLimit | None:
    while _LIMITS:
        _LIMITS.pop().close()
    if lines:
        _LIMITS.append(LineLimit(lines))
    return _LIMITS[0] if _LIMITS else None


def write_left_out() -> None:
    """Write how many lines of each kind were left out until now."""
    for limit in _LIMITS:
        limit.end_window()


def _limited(limit: LineLimit) -> Processor:
    def leave_out(
        _logger: object, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        text = event.get("event")
        if _is_counted(text) or limit.takes(
            level_of(method), text, job=event.get("job")
        ):
            return event
        raise structlog.DropEvent

    return leave_out


def _is_counted(text: object) -> bool:
    """Whether a line is of this package, which limits its own by their causes.

    Only the error of a thread is not: it is the program's.
    """
    return _is_ours(text) and text != Event.THREAD_FAILED


def _with_job(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Add the fields of the job whose handler writes the line.

    A line of this package names its own job, which may be another one.
    """
    fields = job_fields()
    if not fields or _is_ours(event.get("event")):
        return event
    for name, value in fields.items():
        given = event.get(name, value)
        if name == "trace_id":
            event[name] = given
            continue
        if type(given) is not type(value) or given != value:
            event[unused_name(name, event)] = given
        event[name] = value
    return event


def _is_ours(event: object) -> bool:
    return isinstance(event, str) and event in _OURS


def _json() -> list[Processor]:
    # Locals may hold secrets, so frames go without them.
    frames = ExceptionDictTransformer(show_locals=False, max_frames=_MAX_FRAMES)
    return [
        structlog.processors.ExceptionRenderer(frames),
        _bounded,
        structlog.processors.JSONRenderer(serializer=_encode),
    ]


def _console(out: TextIO) -> list[Processor]:
    colors = out.isatty() and not _is_colorless()
    return [
        _escaped,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_traceback),
    ]


def _traceback(out: TextIO, exc_info: ExcInfo) -> None:
    # structlog's own formatters print the text of an exception unescaped.
    text = "".join(traceback.format_exception(*exc_info, limit=-_MAX_FRAMES))
    for line in text.splitlines():
        print(_indent(line) + printable(line.strip(), _MAX_FIELD), file=out)


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip(" ")))


def _factory(out: TextIO, *, is_console: bool) -> Any:
    buffer: BinaryIO | None = getattr(out, "buffer", None)
    if is_console or buffer is None:
        return structlog.PrintLoggerFactory(out)
    return structlog.BytesLoggerFactory(buffer)


def _is_colorless() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _encode(event: dict[str, Any], **_: object) -> bytes:
    return encode_line(event)


def _bounded(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        event[name] = _cut(value)
    return event


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > _MAX_FIELD:
        return f"{value[:_MAX_FIELD]}… ({len(value)} characters)"
    if isinstance(value, bytes):
        return _cut(value[:_MAX_FIELD].hex())
    if isinstance(value, dict):
        return {name: _cut(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(inner) for inner in value]
    return value


def _escaped(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if name != "exc_info" and not isinstance(value, bool | int | float):
            event[name] = printable(str(value), _MAX_FIELD)
    return event
