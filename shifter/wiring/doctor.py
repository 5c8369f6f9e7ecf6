"""Vendor checks of `shifter doctor`, chosen by the URLs that the settings name."""

from __future__ import annotations

from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.finding import OK, Finding
from shifter.ports import Clock
from shifter.wiring.files import is_sqlite
from shifter.wiring.state import open_claims


def check_clients() -> list[Finding]:
    """Whether the client libraries of this process are new enough."""
    from shifter.adapters.kafka.doctor import check_client  # noqa: PLC0415
    from shifter.adapters.sqlite.doctor import check_library  # noqa: PLC0415

    return [check_client(), check_library()]


def check_log_transport(settings: Settings) -> list[Finding]:
    """Whether the connection to the log is safe; empty for a log on this machine."""
    from shifter.adapters.kafka.doctor import check_transport  # noqa: PLC0415

    return check_transport(settings)


async def check_state_server(settings: Settings, clock: Clock) -> list[Finding]:
    """Whether the state store answers and keeps what it is given; the first says so.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
        StoreError: It does not answer, or refuses this client.
    """
    if settings.state_url is None:
        raise ConfigError("state", None, "set SHIFTER_STATE to redis://host:port/0")
    if not is_sqlite(settings.state_url):
        from shifter.adapters.redis.doctor import check_server  # noqa: PLC0415

        return await check_server(settings.state_url.reveal(), clock)
    claims = open_claims(settings)
    try:
        return [Finding("state", OK, await claims.ping())]
    finally:
        await claims.close()
