"""Opens the parts of a log that most programs need: writing, and looking after it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING

from shifter.config import Settings
from shifter.ports import AtomicLog, Clock, LaneLog, LogAdmin
from shifter.wiring.registry import log_adapter

if TYPE_CHECKING:
    from shifter.adapters.sqlite.fsck import Checked


def is_embedded(settings: Settings) -> bool:
    """Whether the log is a file of this machine; ``False`` without a log."""
    return settings.log_url is not None and log_adapter(settings).is_embedded


def open_log(settings: Settings) -> LaneLog:
    """Where records become durable.

    Raises:
        ConfigError: No log is configured, or its URL is wrong.
    """
    return log_adapter(settings).open_log(settings)


def open_atomic_log(settings: Settings, name: str) -> AtomicLog:
    """Where a sender's records become durable together, or not at all.

    Args:
        settings: Name the log.
        name: The sender's name in the namespace; one process at a time sends as it.

    Raises:
        ConfigError: The client library refuses a setting.
    """
    return log_adapter(settings).open_atomic_log(
        settings, f"{settings.namespace}.{name}"
    )


def open_admin(settings: Settings) -> LogAdmin:
    """Looks after the topics of the log.

    Raises:
        ConfigError: No log is configured, or its URL is wrong.
    """
    return log_adapter(settings).open_admin(settings)


@contextlib.asynccontextmanager
async def opened_admin(settings: Settings) -> AsyncGenerator[LogAdmin]:
    """The admin of a log that answers, closed at the end.

    The first call is a ping: it reports a wrong password or certificate within seconds,
    where any other call waits for its whole timeout and reports only that.

    Raises:
        StoreUnavailableError, StoreRefusedError: With what the client reported last.
    """
    admin = open_admin(settings)
    try:
        await admin.ping()
        yield admin
    finally:
        await admin.close()


def log_path(settings: Settings) -> Path | None:
    """The file of an embedded log; ``None`` where the log is no file."""
    return None if settings.log_url is None else log_adapter(settings).path(settings)


def check_file(path: Path, clock: Clock) -> Checked:
    """Read every record of a log's or spool's file; damaged ones are set aside.

    Raises:
        ConfigError, StoreRefusedError, StoreUnavailableError: It cannot be checked.
    """
    from shifter.adapters.sqlite.fsck import check  # noqa: PLC0415

    return check(path, clock)
