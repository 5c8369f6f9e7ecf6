"""Addresses to listen on, as options give them: ``HOST:PORT``."""

from __future__ import annotations

from typing import Final

from shifter.errors import ConfigError

_MAX_PORT: Final = 65_535


def host_and_port(option: str, text: str, *, usual: int) -> tuple[str, int]:
    """Host and port; a port alone means the loopback.

    Args:
        option: Name of the option, for the error.
        text: What was given.
        usual: Port of the error's example.

    Raises:
        ConfigError: It is no address.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > _MAX_PORT:
        raise ConfigError(option, text, f"use HOST:PORT, such as 127.0.0.1:{usual}")
    return (host.strip("[]") or "127.0.0.1"), int(port)
