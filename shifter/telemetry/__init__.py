"""Telemetry: event names, log lines, metrics, traces.

Importing this package configures nothing. Log lines go to structlog where the process
has configured it (the command line does, by `shifter.telemetry.setup`), else to the
standard library's logger ``shifter``. Metrics are plain numbers owned by their process;
a scrape converts them to Prometheus' text (`shifter.telemetry.exposition`).

A service serves its own with `asgi_metrics`, with `serve_metrics` on a port of their
own, or in a registry of prometheus-client that it has already, with `collector`:

    from starlette.routing import Route

    from shifter.telemetry import asgi_metrics

    routes = [Route("/metrics", asgi_metrics(app))]
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from shifter.telemetry.fleet_metric import FleetMetrics
from shifter.telemetry.log import Event, Log, job_fields
from shifter.telemetry.metric import (
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
    from shifter.telemetry.exposition import Exposition
    from shifter.telemetry.server import MetricsServer

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
    "collector",
    "configure_logging",
    "flush_logging",
    "job_fields",
    "serve_metrics",
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


def serve_metrics(
    app: HasMetrics, port: int, *, host: str = "127.0.0.1"
) -> MetricsServer:
    """Serve the metrics of this process at ``/metrics`` on a port of their own.

    A thread answers, without authentication. Where processes are forked, call it in
    each of them, with a port of its own.

    Args:
        app: The `shifter.Shifter` of the service.
        port: Port to listen on; 0 for a free one, which ``port`` of the answer names.
        host: Address to listen on; the loopback unless another one is named.

    Returns:
        The server: a context manager, or to be closed by ``close``.

    Raises:
        OSError: The address cannot be bound.
    """
    from shifter.telemetry.exposition import of_service  # noqa: PLC0415
    from shifter.telemetry.server import MetricsServer  # noqa: PLC0415

    return MetricsServer(of_service(app), host, port)


def collector(app: HasMetrics) -> Exposition:
    """The metrics of this process as a collector of prometheus-client.

    ``prometheus_client.REGISTRY.register(collector(app))`` adds them to the page that a
    service has already.

    Args:
        app: The `shifter.Shifter` of the service.
    """
    from shifter.telemetry.exposition import of_service  # noqa: PLC0415

    return of_service(app)


def configure_logging(level: str, log_format: str, lines: int = 0) -> None:
    """Write this process's log lines to standard error; for programs, not libraries.

    Lines of structlog and of the standard library's loggers have one format, and those
    of a handler carry its job (`job_fields`).

    Args:
        level: The lowest level written: ``debug``, ``info``, ``warning``, ``error``.
        log_format: ``json``, ``console``, or ``auto``: console on a terminal.
        lines: Lines of one kind that the program's own loggers write in 10 s; further
            ones are counted. 0: all of them.
    """
    # structlog takes 0.15 s to import, which a service that only defers need not pay.
    from shifter.telemetry.setup import configure  # noqa: PLC0415

    configure(level, log_format, sys.stderr, lines)


def flush_logging() -> None:
    """Write how many lines `configure_logging` left out; for the end of a program."""
    setup = sys.modules.get("shifter.telemetry.setup")
    if setup is not None:
        setup.write_left_out()
