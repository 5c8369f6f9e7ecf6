"""What ``shifter work`` does: its checks, the supervisor, and the end of a burst."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Awaitable
from typing import NamedTuple

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.address import host_and_port
from shifter.cli.output import warn
from shifter.cli.problem import Exit, ProblemError
from shifter.cli.session import Session, need_log, need_state
from shifter.cli.version import DISTRIBUTION, version_of
from shifter.config.settings import OPTIONS
from shifter.errors import ConfigError, StoreUnavailableError
from shifter.model.lane import Priority
from shifter.model.time import duration_ms
from shifter.ops.doctor import until_up
from shifter.ports import LaneDepth, LogAdmin
from shifter.supervise.entrypoint import drained, supervise
from shifter.supervise.first_child import FirstChild
from shifter.telemetry import configure_logging
from shifter.wiring.worker import lanes_served
from shifter.work.worker import WorkOptions

# Errors of a --health address that another process has, or that this machine has not.
_CANNOT_BIND = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


class Given(NamedTuple):
    """The options of the command line; see `shifter.cli.work.work`."""

    target: str
    processes: int | None
    concurrency: int | None
    queues: tuple[str, ...]
    priorities: tuple[Priority, ...]
    is_burst: bool
    wait: str
    health: str | None
    watchdog: str


def run_workers(given: Given, session: Session, first: FirstChild) -> int:
    """Check what the workers need, and run them.

    Args:
        given: The options.
        session: The command line.
        first: The first worker process, which is begun already.

    Returns:
        The exit code of the command.

    Raises:
        ConfigError: An option is wrong.
        ProblemError: The app cannot be worked for.
    """
    wait_s = duration_ms("--wait", given.wait) / 1_000
    app = session.app(given.target)
    settings = need_state(need_log(app.settings))
    options = WorkOptions(
        target=given.target,
        processes=_checked("processes", given.processes, settings.processes),
        concurrency=_checked("concurrency", given.concurrency, settings.concurrency),
        queues=given.queues,
        priorities=given.priorities,
        burst=given.is_burst,
        wait_s=wait_s,
        health=None
        if given.health is None
        else host_and_port("--health", given.health, usual=9000),
        watchdog_s=duration_ms("--watchdog", given.watchdog) / 1_000,
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
    return asyncio.run(_work(app, options, topics, first))


async def _work(
    app: Shifter, options: WorkOptions, topics: list[str], first: FirstChild
) -> int:
    clock, settings = SystemClock(), app.settings
    admin = wiring.open_admin(settings)
    try:
        await until_up(settings, admin, clock, wait_s=options.wait_s, warn=warn)
        if not wiring.is_embedded(settings):
            await _check_topics(admin, topics, options.target)
        await _check_rights(admin, topics)
        return await _supervise(app, options, admin, topics, first)
    finally:
        await admin.close()


async def _supervise(
    app: Shifter,
    options: WorkOptions,
    admin: LogAdmin,
    topics: list[str],
    first: FirstChild,
) -> int:
    if not options.burst:
        return await _answering(options, app, None, first)
    depths: list[LaneDepth] = []
    from shifter.cli.progress import BurstProgress  # noqa: PLC0415  # slow; a burst's

    progress = BurstProgress(depths, SystemClock(), sys.stderr)
    async with asyncio.TaskGroup() as group:
        drawing = group.create_task(progress.run())
        until = drained(admin, topics, depths=depths)
        code = await _answering(options, app, until, first)
        drawing.cancel()
    return code


async def _answering(
    options: WorkOptions,
    app: Shifter,
    until: Awaitable[None] | None,
    first: FirstChild,
) -> int:
    try:
        return await supervise(
            options,
            app,
            until=until,
            first=first,
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
