"""The one way this package writes log lines.

Cheap to import and to hold: structlog, whose import takes 0.15 s, is used when the
process has configured it, and never loaded from here. Do not log one line a job at a
level that is on by default: ask `Log.is_on` once a batch.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from shifter.telemetry.event import Event
from shifter.wire.text import printable

DEBUG: Final = logging.DEBUG
INFO: Final = logging.INFO
WARNING: Final = logging.WARNING
ERROR: Final = logging.ERROR

_LIMIT: Final = 300


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

    def bind(self, **fields: object) -> Log:
        """A log that adds these fields too."""
        return Log(**{**self._fields, **fields})

    def debug(self, event: Event, **fields: object) -> None:
        """Details for debugging."""
        self._write(DEBUG, event, fields)

    def info(self, event: Event, **fields: object) -> None:
        """Ordinary events, a few lines a minute."""
        self._write(INFO, event, fields)

    def warning(self, event: Event, **fields: object) -> None:
        """A fault that this package handles by itself."""
        self._write(WARNING, event, fields)

    def error(self, event: Event, **fields: object) -> None:
        """A fault that needs an operator; ``exc_info=error`` adds the traceback."""
        self._write(ERROR, event, fields)

    def is_on(self, level: int) -> bool:
        """Whether lines of this level are written at all."""
        bound = self._structlog()
        if bound is None:
            return _fallback().isEnabledFor(level)
        asked = getattr(bound, "is_enabled_for", None)
        return True if asked is None else bool(asked(level))

    def write(self, level: int, event: Event, /, **fields: object) -> None:
        """A line of a level that is known at run time only."""
        self._write(level, event, fields)

    def _write(self, level: int, event: Event, fields: dict[str, Any]) -> None:
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
        # Binding costs 5 µs a line, so it is done again only when somebody has
        # configured anew.
        factory = structlog.get_config()["logger_factory"]
        if factory is not self._factory:
            self._bound = structlog.get_logger().bind(**self._fields)
            self._factory = factory
        return self._bound


def _fallback() -> logging.Logger:
    return logging.getLogger("shifter")  # noqa: TID251  # the one place that may


def _shown(value: object) -> str:
    return printable(str(value), _LIMIT)
