"""Entry points of worker processes: what a child imports, opens and runs.

The functions are module-level and take plain arguments, since a spawned process finds
them by name. Settings reach a child through the environment it inherits.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.api.load import load_app
from shifter.errors import ShifterError, StoreRefusedError, StoreUnavailableError
from shifter.fleet.cron_state import CronState
from shifter.jobs.registered import RegisteredJob
from shifter.policy.health import HealthPolicy
from shifter.ports import LaneDepth, LogAdmin
from shifter.produce.publisher import Publisher
from shifter.runtime.forking import default_signals_in_child
from shifter.runtime.garbage import spare_what_lives_long
from shifter.runtime.process_group import (
    holding_signals,
    ignore_signals,
    lead_group,
    lead_session,
)
from shifter.supervise.canary import Canary
from shifter.supervise.cron import CronSchedule
from shifter.supervise.first_child import FirstChild
from shifter.supervise.supervisor import DRAINED_EXIT, ProcessHealth, Supervisor
from shifter.telemetry import Event, Log, configure_logging, flush_logging
from shifter.telemetry.tracing import flush
from shifter.wiring.worker import FleetTerms, lanes_served, open_worker
from shifter.work.attempt import STOP_GRACE_S
from shifter.work.heartbeat import Versions
from shifter.work.isolated_child import serve_calls
from shifter.work.worker import Worker, WorkOptions

_DRAINED_CHECKS = 3
_CHECK_EVERY_S = 0.4
_FAILED_EXIT = 1
_AWAY_EXIT = 69
_REPLACED_EXIT = 75
_REFUSED_EXIT = 77
_CONFIG_EXIT = 78
_KILL_GRACE_S = 15.0
_FLUSH_S = 3.0
"""How long the end of a process may wait for its spans to be sent."""


async def supervise(
    options: WorkOptions,
    app: Shifter,
    *,
    until: Awaitable[None] | None,
    first: FirstChild | None = None,
) -> int:
    """Keep ``options.processes`` workers alive until a signal, or until ``until``.

    Args:
        options: What the workers serve.
        app: Its settings name the servers, and how long running jobs may continue after
            a stop.
        until: Stops the workers when it is done; ``None`` for signals alone.
        first: A process that was begun before; ``None`` without.

    Returns:
        The exit code of the command.

    Raises:
        OSError: The address for probes cannot be bound.
        ConfigError: The sizes of worker groups contradict each other.
    """
    settings = app.settings
    drain_timeout_s = settings.drain_timeout_ms / 1_000
    # A process that drains because one attempt does not end has the drain timeout too.
    overdue_s = STOP_GRACE_S + drain_timeout_s + _KILL_GRACE_S
    policy = HealthPolicy(overdue_s=overdue_s)
    clock = SystemClock()
    health = ProcessHealth(options.processes, clock, policy)
    supervisor = Supervisor(
        functools.partial(worker_process, options),
        processes=options.processes,
        kill_after_s=drain_timeout_s + _KILL_GRACE_S,
        health=health,
        watchdog_s=options.watchdog_s,
        first=first,
    )
    if options.health is None:
        return await _supervised(supervisor, until)
    # Only a deployment that scrapes metrics needs prometheus-client.
    from shifter.ops.scale_reader import ScaleReader  # noqa: PLC0415
    from shifter.ops.scaling import Planner  # noqa: PLC0415
    from shifter.supervise.lane_gauges import LaneGauges  # noqa: PLC0415
    from shifter.supervise.probes import ProbeServer  # noqa: PLC0415

    scaling = ScaleReader(app, clock, is_asked_only=True)
    endpoint = ProbeServer(
        health, version=options.version or "unknown", scaling=scaling
    )
    host, port = options.health
    planner = Planner(app, clock, remembers=True)
    gauges = LaneGauges(settings, health.fleet, clock, planner)
    async with endpoint.serving(host, port) as bound, asyncio.TaskGroup() as group:
        Log().info(Event.HEALTH_SERVED, host=host, port=bound)
        readings = [group.create_task(one.run()) for one in (gauges, scaling)]
        try:
            return await _supervised(supervisor, until)
        finally:
            for reading in readings:
                reading.cancel()


async def _supervised(supervisor: Supervisor, until: Awaitable[None] | None) -> int:
    try:
        return await supervisor.run(until)
    finally:
        # The work is done: another signal to the group must not change the exit code.
        ignore_signals(signal.SIGTERM, signal.SIGINT)


async def drained(
    admin: LogAdmin, topics: list[str], *, depths: list[LaneDepth]
) -> None:
    """Return when nothing waits, is delayed or runs on these lanes.

    One look may miss a job that moves between its lane and a delay tier, so several
    looks in a row must find nothing.

    Args:
        admin: Admin of the log.
        topics: The lanes.
        depths: Replaced by the result of each look, for a progress bar.
    """
    empty = 0
    while empty < _DRAINED_CHECKS:
        await asyncio.sleep(_CHECK_EVERY_S)
        depths[:] = await admin.depths(topics)
        left = sum(depth.waiting + (depth.delayed or 0) for depth in depths)
        empty = 0 if left else empty + 1


def worker_process(options: WorkOptions, channel: socket.socket | None = None) -> None:
    """Run a worker until it is stopped; the body of a child process.

    Args:
        options: What the worker serves.
        channel: Socket for heartbeats to the supervisor; ``None`` without a
            supervisor.
    """
    lead_session()
    # The watchdog ends a stalled process with SIGABRT, to see where it stands.
    faulthandler.enable()
    try:
        app = load_app(options.target)
        _log_all(app)
        spare_what_lives_long()
        code = asyncio.run(_work(app, options, channel))
        _leave(code)
    except ShifterError as error:
        sys.stderr.write(f"worker cannot start: {error}\n")
        sys.exit(_exit_code(error))
    except BaseExceptionGroup as group:
        # A store that refuses or fails later on is no bug: no traceback is printed, and
        # the supervisor starts another worker.
        known, unknown = group.split(ShifterError)
        bug = group if known is None or unknown is not None else None
        Log().error(Event.WORKER_FAILED, detail=str(_first(group)), exc_info=bug)
        sys.exit(_FAILED_EXIT)
    except Exception as error:  # noqa: BLE001  # its traceback is a field of one line
        Log().error(Event.WORKER_FAILED, detail=str(error), exc_info=error)
        sys.exit(_FAILED_EXIT)


def _log_all(app: Shifter) -> None:
    """Write lines of this process, warnings and errors of threads in one format."""
    settings = app.settings
    configure_logging(settings.log_level, settings.log_format, settings.log_lines)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is None or failed.exc_type is SystemExit:
        return
    name = None if failed.thread is None else failed.thread.name
    Log().error(Event.THREAD_FAILED, thread=name, exc_info=failed.exc_value)


def _exit_code(error: ShifterError) -> int:
    """The supervisor restarts after an unavailable store; other errors are final."""
    if isinstance(error, StoreUnavailableError):
        return _AWAY_EXIT
    return _REFUSED_EXIT if isinstance(error, StoreRefusedError) else _CONFIG_EXIT


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _leave(code: int) -> None:
    """End the process, although the thread of a handler may never return."""
    if any(
        not t.daemon and t is not threading.main_thread() for t in threading.enumerate()
    ):
        sys.stderr.flush()
        os._exit(code)
    if code:
        sys.exit(code)


async def _work(
    app: Shifter, options: WorkOptions, channel: socket.socket | None
) -> int:
    """Run a worker to its end; returns the exit code of the process."""

    def spawn() -> tuple[BaseProcess, Connection]:
        return _spawn_isolated(options.target)

    lanes = lanes_served(app.namespace, app.queues, options)
    terms = FleetTerms(
        list(app.dependencies.values()), app.quality_policy, app.hours, app.tracing
    )
    handlers: dict[str, RegisteredJob] = {**app.handlers}
    canary = Canary(clock=SystemClock())
    if app.settings.canary_ms:
        handlers[canary.spec.name] = canary
    worker = open_worker(app.settings, handlers, lanes, options, spawn, terms)
    canary.metrics = worker.drain.observer.metrics
    worker.channel, worker.cron = channel, _cron(app, worker)
    worker.versions = Versions(options.version, app.settings.app_version)
    _leave_with_parent()
    try:
        is_stuck = await worker.run()
    finally:
        flush_logging()
        flush(app.tracing, timeout_s=_FLUSH_S)
    code = 0 if worker.drain_order is None else DRAINED_EXIT
    if is_stuck:
        # Neither the loop nor the interpreter waits for a handler that does not end.
        sys.stderr.flush()
        os._exit(code or _REPLACED_EXIT)
    return code


def _cron(app: Shifter, worker: Worker) -> CronSchedule | None:
    if all(job.spec.cron is None for job in app.jobs.values()):
        return None
    clock, timeout_s = SystemClock(), app.settings.accept_timeout_ms / 1_000
    spans = worker.drain.spans
    publisher = Publisher(worker.log, clock, timeout_s=timeout_s, spans=spans)
    replica, shared = worker.drain.replica, CronState()
    replica.tenants.append(shared)
    return CronSchedule(
        app.namespace, app.jobs, publisher, clock, replica.store_ms, shared
    )


def _leave_with_parent() -> None:
    """Drain when the supervisor has ended, as after SIGTERM."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop = asyncio.get_running_loop()

    def on_parent_gone() -> None:
        loop.remove_reader(parent.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, on_parent_gone)


def _spawn_isolated(target: str) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=isolated_process, args=(target, theirs), daemon=True)
    with holding_signals():
        child.start()
    theirs.close()
    return child, ours


def isolated_process(target: str, connection: Connection) -> None:
    """Run ``isolate="process"`` jobs until the worker ends; the body of a child."""
    lead_group()
    ignore_signals(signal.SIGINT, signal.SIGTERM)
    default_signals_in_child()
    # The worker started it as a daemon, so that its exit ends this process. A daemon
    # may not have children, so the flag is cleared here; they end with its group.
    multiprocessing.current_process().daemon = False
    app = load_app(target)
    _log_all(app)
    serve_calls(connection, app.handlers, SystemClock())
    flush_logging()
    flush(app.tracing, timeout_s=_FLUSH_S)
