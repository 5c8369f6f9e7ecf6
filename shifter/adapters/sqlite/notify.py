"""Wakes waiting members when there is work: one datagram, after the commit.

A member binds a socket of its own. The first transaction of it that finds no record
stores the socket's path, and from then on every append to one of its topics sends it a
byte; removing the path whenever it does not wait would cost a sync each time. Without
members an append makes no system call. A datagram that is lost delays a member until
it looks by itself.
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
            # The socket cannot be made there, or its path is too long: the member then
            # finds records by looking at intervals.
            self.path = ""

    def drain(self) -> None:
        """Discard the datagrams that arrived."""
        with contextlib.suppress(OSError):
            while self.socket.recv(64):
                pass

    def close(self) -> None:
        """Close the socket; its path stays, and shows that the member has ended."""
        self.socket.close()


def wake_members(paths: Iterable[str]) -> None:
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
    """Whether the member with this socket has certainly ended.

    A path that does not exist proves nothing: the member may run in a container whose
    temporary folder is another one.
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
    """Remove the sockets of members that the file no longer lists; never fails.

    A member that the file lists keeps its socket, since one without a socket counts as
    alive until its lease ends. The paths were read from the file, which is not trusted:
    anything that is not named like a socket of ours is left alone.
    """
    for path in map(Path, paths):
        if str(path.parent) == tempfile.gettempdir() and path.name.startswith(_PREFIX):
            with contextlib.suppress(OSError):
                path.unlink()
