"""Wakes processes that wait for work: a UNIX datagram socket each.

Nobody waiting costs nothing; a datagram to somebody who waits costs some 30 µs. A lost
one is harmless, since whoever waits also looks by itself now and then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# macOS takes 104 bytes, with the zero at the end.
_MAX_PATH_BYTES: Final = 100
_DRAIN_MOST: Final = 64


class Bell:
    """A socket of our own that others write to.

    Args:
        database: The file; the bell hangs beside it where the path is short enough.

    Attributes:
        address: Its path.
    """

    def __init__(self, database: Path) -> None:
        digest = hashlib.sha256(str(database).encode()).hexdigest()[:8]
        name = f".shifter-{digest}-{secrets.token_hex(4)}"
        self.address = str(database.parent / name)
        if len(os.fsencode(self.address)) > _MAX_PATH_BYTES:
            self.address = str(Path(tempfile.gettempdir()) / name)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(self.address)
            Path(self.address).chmod(0o600)
        except OSError:
            # No place for a socket: whoever waits looks by itself.
            self.address = ""

    def fileno(self) -> int:
        """For an event loop; readable when it rang."""
        return self._socket.fileno()

    def hush(self) -> None:
        """Forget that it rang."""
        with contextlib.suppress(OSError):
            for _ in range(_DRAIN_MOST):
                self._socket.recv(16)

    def close(self) -> None:
        """Take it down."""
        self._socket.close()
        if self.address:
            with contextlib.suppress(OSError):
                Path(self.address).unlink()


class Ringer:
    """Writes to the bells of others, without ever waiting."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def ring(self, addresses: Iterable[str]) -> None:
        """Wake them; who is gone or has been rung often enough is passed over."""
        for address in addresses:
            with contextlib.suppress(OSError):
                self._socket.sendto(b"!", address)

    def is_dead(self, address: str) -> bool:
        """Whether whoever hung this bell has certainly ended; rings it, too."""
        try:
            self._socket.sendto(b"!", address)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Free the socket."""
        self._socket.close()
