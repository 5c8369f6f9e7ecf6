"""``shifter work``: run workers until a signal, or until nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Awaitable

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.address import host_and_port
from shifter.cli.output import warn
from shifter.cli.problem import Exit, ProblemError
from shifter.cli.progress import BurstProgress
from shifter.cli.session import InSession, need_log, need_state
from shifter.cli.version import DISTRIBUTION, version_of
from shifter.config.settings import OPTIONS
from shifter.errors import ConfigError, StoreUnavailableError
from shifter.model.lane import Priority
from shifter.model.time import duration_ms
from shifter.ops.doctor import until_up
from shifter.ports import Clock, LaneDepth, LogAdmin
from shifter.supervise.entrypoint import drained, supervise
from shifter.telemetry import configure_logging
from shifter.wiring.worker import lanes_served
from shifter.work.worker import WorkOptions

# Errors of a --health address that another process has, or that this machine has not.
_CANNOT_BIND = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def work(  # noqa: PLR0913  # one parameter an option
    target: str,
    /,
    *,
    processes: int | None = None,
    concurrency: int | None = None,
    queue: list[str] | None = None,
    priority: list[Priority] | None = None,
    burst: bool = False,
    wait: str = "0s",
    health: str | None = None,
    watchdog: str = "60s",
    session: InSession,
) -> int:
    """Run workers for an app.

    The command supervises worker processes and replaces those that end. A first SIGTERM
    or Ctrl-C lets running jobs end; a later one hands them back at once.

    Example: shifter work shop.jobs:app --processes 4 --health 127.0.0.1:9000

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        processes: Number of worker processes.
        concurrency: Jobs running at once in each process.
        queue: Serve only this queue; may be repeated.
        priority: Serve only this priority; may be repeated.
        burst: End when nothing that is served is waiting, delayed or running.
        wait: How long to wait for log and state store at the start, such as 60s.
        health: HOST:PORT that answers /startupz, /livez, /readyz and /metrics for all
            processes.
        watchdog: How long a process may make no progress before it is replaced; 0s for
            ever.
        session: This command line.
    """
    wait_s = duration_ms("--wait", wait) / 1_000
    app = session.app(target)
    settings = need_state(need_log(app.settings))
    options = WorkOptions(
        target=target,
        processes=_checked("processes", processes, settings.processes),
        concurrency=_checked("concurrency", concurrency, settings.concurrency),
        queues=tuple(queue or ()),
        priorities=tuple(priority or ()),
        burst=burst,
        wait_s=wait_s,
        health=None
        if health is None
        else host_and_port("--health", health, usual=9000),
        watchdog_s=duration_ms("--watchdog", watchdog) / 1_000,
        version=version_of(DISTRIBUTION),
    )
    topics = list(lanes_served(app.namespace, app.queues, options))
    if not topics:
        raise ProblemError(
            "app",
            f"app {app.namespace!r} has nothing to work on",
            "no job is registered in it",
            "declare one with @app.job, in a module that MODULE:APP imports",
            Exit.CONFIG,
        )
    configure_logging(settings.log_level, settings.log_format)
    return asyncio.run(_work(app, options, topics))


async def _work(app: Shifter, options: WorkOptions, topics: list[str]) -> int:
    clock, settings = SystemClock(), app.settings
    admin = wiring.open_admin(settings)
    try:
        await until_up(settings, admin, clock, wait_s=options.wait_s, warn=warn)
        if not wiring.is_embedded(settings):
            await _check_topics(admin, topics, options.target)
        await _check_rights(admin, topics)
        return await _supervise(app, options, admin, topics, clock)
    finally:
        await admin.close()


async def _supervise(
    app: Shifter,
    options: WorkOptions,
    admin: LogAdmin,
    topics: list[str],
    clock: Clock,
) -> int:
    if not options.burst:
        return await _answering(options, app, None)
    depths: list[LaneDepth] = []
    progress = BurstProgress(depths, clock, sys.stderr)
    async with asyncio.TaskGroup() as group:
        drawing = group.create_task(progress.run())
        until = drained(admin, topics, depths=depths)
        code = await _answering(options, app, until)
        drawing.cancel()
    return code


async def _answering(
    options: WorkOptions, app: Shifter, until: Awaitable[None] | None
) -> int:
    try:
        return await supervise(
            options,
            app,
            until=until,
        )
    except OSError as error:
        is_address = error.errno in _CANNOT_BIND or isinstance(error, socket.gaierror)
        if options.health is None or not is_address:
            raise
        host, port = options.health
        raise ConfigError("--health", f"{host}:{port}", str(error)) from error


async def _check_topics(admin: LogAdmin, topics: list[str], target: str) -> None:
    missing = sorted(set(topics) - set(await admin.topics()))
    if missing:
        raise ProblemError(
            "missing_topics",
            f"{len(missing)} topics of {target} do not exist, or are hidden",
            ", ".join(missing),
            f"shifter topics apply {target}",
            Exit.CONFIG,
        )


async def _check_rights(admin: LogAdmin, topics: list[str]) -> None:
    # Asking what waits needs the group and, where something does, its records: a
    # missing right is reported once and at once, not by each worker process.
    with contextlib.suppress(StoreUnavailableError):
        await admin.depths(topics)


def _checked(name: str, given: int | None, default: int) -> int:
    if given is None:
        return default
    for option in OPTIONS:
        if option.name == name:
            option.check(f"--{name}", given)
    return given
