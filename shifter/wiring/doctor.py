"""Vendor checks of `shifter doctor`, chosen by the URLs that the settings name."""

from __future__ import annotations

from shifter.config import Settings
from shifter.model.advice import Finding
from shifter.ports import Clock
from shifter.wiring.registry import log_adapter, state_adapter


def check_clients() -> list[Finding]:
    """Whether the client libraries of this process are new enough."""
    from shifter.adapters.kafka.doctor import check_client  # noqa: PLC0415
    from shifter.adapters.sqlite.doctor import check_library  # noqa: PLC0415

    return [check_client(), check_library()]


def check_log_transport(settings: Settings) -> list[Finding]:
    """Whether the connection to the log is safe; empty for a log on this machine."""
    return log_adapter(settings).check_transport(settings)


async def check_state_server(settings: Settings, clock: Clock) -> list[Finding]:
    """Whether the state store answers, and is set up to keep what it is given.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
        StoreError: It does not answer, or refuses this client.
    """
    return await state_adapter(settings).check_server(settings, clock)
