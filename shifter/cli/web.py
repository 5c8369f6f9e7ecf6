"""`shifter web`: the operator's page of an app, in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cyclopts import Parameter

from shifter.api.app import Shifter
from shifter.cli.address import host_and_port
from shifter.cli.output import note
from shifter.cli.problem import Exit, ProblemError
from shifter.cli.session import InSession, need_log
from shifter.errors import ConfigError
from shifter.telemetry import configure_logging
from shifter.web import Access, asgi
from shifter.web.access import is_loopback

if TYPE_CHECKING:
    import uvicorn

# Errors of an address that another process has, or that this machine has not.
_CANNOT_BIND = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
_PATIENCE_S = 2
"""How long open connections may go on after the first signal."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Entrance:
    """Who may open the page.

    Attributes:
        operate_token: File with the token of those who may change something.
        read_token: File with the token of those who may only read.
        user_header: Header in which a proxy sends the name of the user, such as
            X-Forwarded-User.
        proxy: Address or network of that proxy; may be repeated.
        operator: User of the proxy who may change something; may be repeated.
    """

    operate_token: Path | None = None
    read_token: Path | None = None
    user_header: str | None = None
    proxy: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()

    def access(self) -> Access:
        """The same as the page takes it.

        Raises:
            ConfigError: A file cannot be read, or what it holds is refused.
        """
        return Access(
            operate_token=_token("--operate-token", self.operate_token),
            read_token=_token("--read-token", self.read_token),
            user_header=self.user_header,
            proxies=self.proxy,
            operators=self.operator,
        )


_OPEN = Entrance()


def web(
    target: str,
    /,
    *,
    listen: str = "127.0.0.1:8080",
    entrance: Entrance = _OPEN,
    session: InSession,
) -> None:
    """Serve the operator's page for an app.

    Without a token or a proxy, only this machine is answered, and everybody on it may
    operate. An address that other machines can reach is refused without one of them.
    The command ends with SIGTERM or Ctrl-C.

    Example: shifter web shop.jobs:app --listen 127.0.0.1:8080

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        listen: HOST:PORT to serve on; port 0 takes a free one.
        entrance: Who may open the page.
        session: This command line.
    """
    host, port = host_and_port("--listen", listen, usual=8080)
    access = entrance.access()
    if access.is_open and not is_loopback(host):
        want = "add --operate-token FILE, or --user-header with --proxy"
        raise ConfigError("--listen", listen, want)
    app = session.app(target)
    need_log(app.settings)
    configure_logging(app.settings.log_level, app.settings.log_format)
    server = _server(app, access)
    with _bound(host, port, listen) as bound:
        shown = "[{}]:{}" if bound.family is socket.AF_INET6 else "{}:{}"
        place = shown.format(*bound.getsockname()[:2])
        note(f"the operator's page is at http://{place}/")
        # The server ends at a signal, then raises it again for the handler before it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _nothing)
        asyncio.run(server.serve(sockets=[bound]))


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal that the server has handled."""


def _server(app: Shifter, access: Access) -> uvicorn.Server:
    """The server of the page, not started.

    Raises:
        ProblemError: The extra is not installed.
    """
    try:
        import uvicorn  # noqa: PLC0415  # of an extra

        page = asgi(app, access=access)
    except ImportError as error:
        raise ProblemError(
            "missing_extra",
            "the operator's page is not installed",
            str(error),
            'pip install "shifter-queue[ui]"',
            Exit.CONFIG,
        ) from error
    config = uvicorn.Config(
        page,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # The page reads the peer's address itself, and believes no header about it.
        proxy_headers=False,
        timeout_graceful_shutdown=_PATIENCE_S,
        ws="none",
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def _bound(host: str, port: int, listen: str) -> Generator[socket.socket]:
    """A listening socket, closed at the end.

    Raises:
        ConfigError: The address cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
        bound = socket.create_server(address[:2], family=family)
    except OSError as error:
        is_address = error.errno in _CANNOT_BIND or isinstance(error, socket.gaierror)
        if not is_address:
            raise
        raise ConfigError("--listen", listen, str(error)) from error
    with bound:
        yield bound


def _token(flag: str, file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(flag, str(file), f"it cannot be read: {error}") from error
