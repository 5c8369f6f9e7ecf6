"""Telling a waiting member that there is work: one datagram, after the commit.

A member binds a socket of its own and writes down, in the first transaction that found
nothing, that it wants to be rung. Who appends for one of its topics sends it a byte
from then on: to write down each time that it waits no more would cost a sync. No
member means no system call; a byte that is lost costs at most the next look.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

_BYTE = b"!"
_PREFIX = "shifter-"


class WakeupSocket:
    """The socket of one member; its path is short, whatever the file's is."""

    def __init__(self, database: Path) -> None:
        mark = hashlib.sha256(str(database).encode()).hexdigest()[:8]
        name = f"{_PREFIX}{mark}-{secrets.token_hex(6)}"
        self.path = str(Path(tempfile.gettempdir()) / name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind(self.path)
            Path(self.path).chmod(0o600)
        except OSError:
            # No place for a socket, or too long a path: its owner looks by itself.
            self.path = ""

    def drain(self) -> None:
        """Forget what was sent."""
        with contextlib.suppress(OSError):
            while self.socket.recv(64):
                pass

    def close(self) -> None:
        """Be silent; what is left at its path says that its owner has ended."""
        self.socket.close()


def ring(paths: Iterable[str]) -> None:
    """Wake members; never blocks, never fails."""
    paths = list(paths)
    if not paths:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        for path in paths:
            with contextlib.suppress(OSError):
                sender.sendto(_BYTE, path)


def is_dead(path: str) -> bool:
    """Whether whoever had this bell has certainly ended.

    A bell that is not there says nothing: its owner may see other folders than we do.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False


def take_down(paths: Iterable[str]) -> None:
    """Remove bells of members that are written down no more; never fails.

    Only then: a member whose bell is gone is believed alive until its end. The paths
    are out of the file, so they must look like bells.
    """
    for bell in map(Path, paths):
        if str(bell.parent) == tempfile.gettempdir() and bell.name.startswith(_PREFIX):
            with contextlib.suppress(OSError):
                bell.unlink()
