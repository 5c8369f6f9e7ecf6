"""A dependency over TCP that can answer in every wrong way, and counts who calls."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Self

from stack.tls import Certificates

STRANGE: Final = "strange certificate"
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
_ERROR: Final = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_BUSY: Final = (
    b"HTTP/1.1 429 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
_ENDLESS: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"


class Downstream:
    """A small HTTP server on loopback; ``with`` starts and ends it.

    Args:
        certificates: Speak TLS only, with these.
        strange: What it shows in the mode `STRANGE`: of another authority.

    Attributes:
        mode: One of `MODES`; may be changed at any time.
        calls: When each call came, monotonic seconds, and in which mode.
    """

    def __init__(
        self,
        certificates: Certificates | None = None,
        strange: Certificates | None = None,
    ) -> None:
        self._usual, self._strange = _context(certificates), _context(strange)
        self.mode = "ok"
        self.calls: list[tuple[float, str]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.close()

    def called(self, mode: str) -> list[float]:
        """When it was called in a mode."""
        return [at for at, found in self.calls if found == mode]

    def _serve(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            mode = self.mode
            self.calls.append((time.monotonic(), mode))
            threading.Thread(
                target=self._answer, args=(connection, mode), daemon=True
            ).start()

    def _answer(self, connection: socket.socket, mode: str) -> None:
        context = self._strange if mode == STRANGE else self._usual
        connection.settimeout(5)
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            connection.recv(4_096)
            MODES[mode](connection, self._is_over)
        except OSError:
            return
        finally:
            connection.close()


def _context(files: Certificates | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_cert, files.server_key)
    return context


def _reset(connection: socket.socket, over: threading.Event) -> None:
    """Close with RST."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _drip(connection: socket.socket, over: threading.Event) -> None:
    """A byte now and then, and never the end."""
    connection.sendall(_ENDLESS)
    while not over.wait(0.1):
        connection.sendall(b"x")


def _flood(connection: socket.socket, over: threading.Event) -> None:
    """A body of a gigabyte."""
    connection.sendall(_ENDLESS)
    block = b"x" * 65_536
    for _ in range(16_384):
        connection.sendall(block)


MODES: Final[dict[str, Callable[[socket.socket, threading.Event], object]]] = {
    "ok": lambda connection, over: connection.sendall(_OK),
    "500": lambda connection, over: connection.sendall(_ERROR),
    "429": lambda connection, over: connection.sendall(_BUSY),
    "hang": lambda connection, over: over.wait(30),
    "drip": _drip,
    "flood": _flood,
    "reset": _reset,
    STRANGE: lambda connection, over: connection.sendall(_OK),
    "garbage": lambda connection, over: connection.sendall(b"\x16\x03\x01\x00\xff" * 9),
}
