"""Telemetry: event names, log lines, metrics.

Importing this package configures nothing. Log lines go to structlog where the process
has configured it (the command line does, by `shifter.telemetry.setup`), else to the
standard library's logger ``shifter``. Metrics are plain numbers owned by their process;
a scrape converts them to Prometheus' text (`shifter.telemetry.exposition`).
"""

from __future__ import annotations

import sys

from shifter.telemetry.log import Event, Log, job_fields
from shifter.telemetry.metric import Metrics, Snapshot, Totals

__all__ = [
    "Event",
    "Log",
    "Metrics",
    "Snapshot",
    "Totals",
    "configure_logging",
    "job_fields",
]


def configure_logging(level: str, log_format: str) -> None:
    """Write this process's log lines to standard error; for programs, not libraries.

    Lines of structlog and of the standard library's loggers have one format, and those
    of a handler carry its job (`job_fields`).

    Args:
        level: The lowest level written: ``debug``, ``info``, ``warning``, ``error``.
        log_format: ``json``, ``console``, or ``auto``: console on a terminal.
    """
    # structlog takes 0.15 s to import, which a service that only defers need not pay.
    from shifter.telemetry.setup import configure  # noqa: PLC0415

    configure(level, log_format, sys.stderr)
