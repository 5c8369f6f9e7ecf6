"""The sockets that bring heartbeats from a process to its supervisor."""

from __future__ import annotations

import socket
from typing import Final

LARGEST_BYTES: Final = 1_000_000
"""Largest heartbeat."""


def heartbeat_sockets() -> tuple[socket.socket, socket.socket]:
    """A pair of connected sockets: the supervisor's end, and the process's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_BYTES)
    return ours, theirs
