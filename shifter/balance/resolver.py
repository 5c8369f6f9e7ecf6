"""Asks the resolver of the system for addresses."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

Resolve: TypeAlias = Callable[[str, int], list[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what stands in for it."""


def resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    """Ask the resolver of the system; blocks.

    Args:
        host: A name or an address.
        port: 1-65535.

    Raises:
        OSError: The name cannot be resolved.
    """
    return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))


def addresses_of(found: Iterable[tuple[Any, ...]]) -> list[str]:
    """The addresses that `resolve` found, each once, in its order.

    >>> addresses_of([(None, None, None, "", ("::1", 80, 0, 0))])
    ['::1']
    """
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
