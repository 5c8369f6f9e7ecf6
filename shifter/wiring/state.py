"""Which store serves which URL of the shared state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.config.endpoint import sqlite_path
from shifter.errors import ConfigError
from shifter.ports import ClaimStore, FleetStore, LaneLog, PresenceStore
from shifter.wiring.files import is_sqlite, open_database, sqlite_log

if TYPE_CHECKING:
    from shifter.adapters.sqlite.database import Database


def open_claims(settings: Settings, beside: LaneLog | None = None) -> ClaimStore:
    """Where "once" is decided.

    Args:
        settings: Name the state store.
        beside: An open log; a state in the same file shares its transactions.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
    """
    if is_sqlite(settings.state_url):
        from shifter.adapters.sqlite.claims import SqliteClaimStore  # noqa: PLC0415

        database = _stateopen_database(settings, beside)
        return SqliteClaimStore(database, settings.namespace, SystemClock())
    from shifter.adapters.redis.claims import RedisClaimStore  # noqa: PLC0415
    from shifter.adapters.redis.client import open_redis  # noqa: PLC0415

    client = open_redis(
        _state_url(settings), timeout_s=settings.claim_timeout_ms / 1_000
    )
    return RedisClaimStore(client, settings.namespace)


def open_presence(settings: Settings, beside: LaneLog | None = None) -> PresenceStore:
    """Where workers say that they live; arguments as of `open_claims`."""
    if is_sqlite(settings.state_url):
        from shifter.adapters.sqlite.presence import (  # noqa: PLC0415
            SqlitePresenceStore,
        )

        database = _stateopen_database(settings, beside)
        return SqlitePresenceStore(database, settings.namespace, SystemClock())
    from shifter.adapters.redis.client import open_redis  # noqa: PLC0415
    from shifter.adapters.redis.presence import RedisPresenceStore  # noqa: PLC0415

    client = open_redis(_state_url(settings), timeout_s=1.0)
    return RedisPresenceStore(client, settings.namespace)


def open_fleet(settings: Settings) -> FleetStore:
    """Where a fleet decides together."""
    if is_sqlite(settings.state_url):
        from shifter.adapters.sqlite.fleet import SqliteFleetStore  # noqa: PLC0415

        url = "" if settings.state_url is None else settings.state_url.reveal()
        path = sqlite_path("state", url)
        beside = path.with_name(f"{path.name}.fleet")
        return SqliteFleetStore(beside, settings.namespace, SystemClock())
    from shifter.adapters.redis.client import open_redis  # noqa: PLC0415
    from shifter.adapters.redis.fleet import RedisFleetStore  # noqa: PLC0415

    client = open_redis(_state_url(settings), timeout_s=1.0)
    return RedisFleetStore(client, settings.namespace)


def _stateopen_database(settings: Settings, beside: LaneLog | None) -> Database:
    if beside is not None and settings.state_url == settings.log_url:
        return sqlite_log(beside).database.share()
    return open_database("state", settings.state_url)


def _state_url(settings: Settings) -> str:
    if settings.state_url is None:
        raise ConfigError("state", None, "set SHIFTER_STATE to redis://host:port/0")
    return settings.state_url.reveal()
