"""Records of the standard library's loggers, as lines of structlog.

A program sends its own lines and those of its libraries to handlers of `logging`. The
handlers that write to the process's standard streams get a formatter that runs the
processors of structlog, so that each line of the process has one format. Their levels
and filters stay, and so do handlers that write elsewhere, such as files.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Container, MutableMapping, Sequence
from typing import Any, Final, TextIO

from structlog.typing import Processor

from shifter.telemetry.line_limit import TAKEN, LineLimit, RecordLimit

_RESERVED: Final = frozenset({"event", "level", "timestamp", "logger", "exc_info"})
_WRITTEN: Final = "shifter_written"
_OF_EACH: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
    | {_WRITTEN, TAKEN}
)
"""Attributes of every record. The others are fields, which ``extra`` has given."""


def format_records(
    processors: Sequence[Processor],
    level: int,
    out: TextIO,
    limit: LineLimit | None = None,
) -> None:
    """Write what the standard library's loggers log in the format of structlog.

    Args:
        processors: Of structlog's configuration; the last one gives text or bytes.
        level: Of the root logger.
        out: Where the root logger writes if it has no handler for a standard stream.
        limit: Of lines of one kind; ``None`` for none.
    """
    root = logging.getLogger()  # noqa: TID251  # the root is the program's
    root.setLevel(level)
    for handler in list(root.handlers):
        if isinstance(handler, RecordHandler):
            root.removeHandler(handler)
    formatter = RecordFormatter(processors)
    named = root.manager.loggerDict.values()
    for logger in (root, *(one for one in named if isinstance(one, logging.Logger))):
        for handler in logger.handlers:
            if _is_of_process(handler):
                _adopt(handler, formatter, limit)
    if not any(map(_is_of_process, root.handlers)):
        ours = RecordHandler(out)
        _adopt(ours, formatter, limit)
        root.addHandler(ours)


def _adopt(
    handler: logging.Handler, formatter: logging.Formatter, limit: LineLimit | None
) -> None:
    handler.setFormatter(formatter)
    for before in [one for one in handler.filters if isinstance(one, RecordLimit)]:
        handler.removeFilter(before)
    if limit is not None:
        handler.addFilter(RecordLimit(limit))


class RecordHandler(logging.StreamHandler[TextIO]):
    """The root logger's handler; passes over what a logger below has written."""

    def filter(self, record: logging.LogRecord) -> Any:
        """Whether the record is to be written."""
        return not hasattr(record, _WRITTEN) and super().filter(record)


class RecordFormatter(logging.Formatter):
    """Makes one line of a record. It never raises, since a line fails no job.

    Args:
        processors: Of structlog's configuration.
    """

    def __init__(self, processors: Sequence[Processor]) -> None:
        super().__init__()
        self._processors = processors

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        setattr(record, _WRITTEN, True)
        try:
            return self._line(record, _fields(record))
        except Exception as error:  # noqa: BLE001  # of arguments, of values, of a job
            event = {"event": repr(type(record.msg)), "logger": record.name}
            if isinstance(record.msg, str):
                event["event"] = record.msg
            return self._line(record, {**event, "log_error": type(error).__name__})

    def _line(self, record: logging.LogRecord, event: Any) -> str:
        for processor in self._processors:
            event = processor(None, record.levelname.lower(), event)
        return event.decode() if isinstance(event, bytes) else str(event)


def unused_name(name: str, taken: Container[str]) -> str:
    """``name`` with as many underscores behind it as make it unused."""
    while name in taken:
        name += "_"
    return name


def _fields(record: logging.LogRecord) -> MutableMapping[str, Any]:
    given = {name: vars(record)[name] for name in vars(record).keys() - _OF_EACH}
    fields: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
    for name, value in given.items():
        free = unused_name(name, given) if name in _RESERVED else name
        fields[free] = value
    if record.exc_info and record.exc_info[0] is not None:
        fields["exc_info"] = record.exc_info
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _is_of_process(
    handler: logging.Handler,
) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return isinstance(handler, logging.StreamHandler) and handler.stream in streams
