"""Telemetry: event names, log lines, metrics, traces.

Importing this package configures nothing. Log lines go to structlog where the process
has configured it (the command line does, by `shifter.telemetry.setup`), else to the
standard library's logger ``shifter``. Metrics are plain numbers owned by their process;
a scrape converts them to Prometheus' text (`shifter.telemetry.exposition`).

A service serves its own with `asgi_metrics`:

    from starlette.routing import Route

    from shifter.telemetry import asgi_metrics

    routes = [Route("/metrics", asgi_metrics(app))]
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from shifter.telemetry.log import Event, Log, job_fields
from shifter.telemetry.metric import (
    FleetMetrics,
    HasMetrics,
    Metrics,
    ServiceMetrics,
    WorkerMetrics,
)
from shifter.telemetry.series import Snapshot
from shifter.telemetry.totals import Totals
from shifter.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from shifter.telemetry.asgi import MetricsEndpoint

__all__ = [
    "Event",
    "FleetMetrics",
    "HasMetrics",
    "Log",
    "Metrics",
    "ServiceMetrics",
    "Snapshot",
    "Totals",
    "Tracing",
    "WorkerMetrics",
    "asgi_metrics",
    "configure_logging",
    "job_fields",
]


def asgi_metrics(app: HasMetrics) -> MetricsEndpoint:
    """An ASGI application that answers with the metrics of this process.

    It answers ``GET`` and ``HEAD`` on whatever path it is mounted, in Prometheus' text
    format. The readings are made in a thread, so a scrape holds up no request.

    Args:
        app: The `shifter.Shifter` of the service.
    """
    # A service that is not scraped does not need prometheus-client.
    from shifter.telemetry.asgi import MetricsEndpoint  # noqa: PLC0415

    return MetricsEndpoint(app)


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
