"""One redis-server on a free port, optionally with TLS and an ACL user."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path
from typing import Self

from stack.install import redis_server
from stack.process import Server, free_port
from stack.tls import Certificates


class RedisServer:
    """A redis-server without persistence, ``noeviction``, on 127.0.0.1.

    Args:
        folder: Where its log goes; a temporary one by default.
        attached: Whether it dies with this process.
        certificates: Listen with TLS only, with these.
        user: With TLS: the only user, as (name, password); ``default`` is off.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        attached: bool = True,
        certificates: Certificates | None = None,
        user: tuple[str, str] | None = None,
    ) -> None:
        self._temporary = folder is None
        self.folder = (
            Path(tempfile.mkdtemp(prefix="redis-")) if folder is None else folder
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._attached, self._certificates, self._user = attached, certificates, user
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Its URL, with the user's name and password where there is one."""
        scheme = "redis" if self._certificates is None else "rediss"
        who = "" if self._user is None else f"{self._user[0]}:{self._user[1]}@"
        return f"{scheme}://{who}localhost:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    def start(self) -> Self:
        """Start it and wait until it accepts connections."""
        command = [
            redis_server(),
            *("--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""),
            *("--appendonly", "no", "--maxmemory-policy", "noeviction"),
            *self._listening(),
        ]
        log = self.folder / "redis.log"
        self._server = Server(command, log, attached=self._attached)
        self._server.wait_for_port(self.port)
        return self

    def _listening(self) -> list[str]:
        options = ["--port", str(self.port)]
        if self._certificates is not None:
            files = self._certificates
            options = [
                *("--port", "0", "--tls-port", str(self.port)),
                *("--tls-cert-file", str(files.server_cert)),
                *("--tls-key-file", str(files.server_key)),
                *("--tls-ca-cert-file", str(files.ca_cert), "--tls-auth-clients", "no"),
            ]
        if self._user is not None:
            name, password = self._user
            acl = self.folder / "users.acl"
            acl.write_text(
                f"user default off\nuser {name} on >{password} ~* &* +@all\n"
            )
            options += ["--aclfile", str(acl)]
        return options

    def stop(self) -> None:
        """End it in order and remove a temporary folder."""
        if self._server is not None:
            self._server.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Crash it; everything it held is gone."""
        self._running().kill()

    def pause(self) -> None:
        """Freeze it: it accepts connections and never answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().signal(signal.SIGCONT)

    def _running(self) -> Server:
        if self._server is None:
            raise RuntimeError("redis-server was not started")
        return self._server

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
