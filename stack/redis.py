"""One redis-server on a free port, optionally with TLS and an ACL user."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from stack.errors import StackError
from stack.home import make_run_dir
from stack.install import redis_server
from stack.process import Server, free_port
from stack.tls import Certificates

_START_S: Final = 30.0


class RedisServer:
    """A redis-server on 127.0.0.1 that evicts nothing.

    Args:
        folder: Where its log and data go; a temporary one by default.
        attached: Whether it dies with this process.
        certificates: Listen with TLS only, with these.
        user: The only user, as (name, password); ``default`` is off.
        durable: Whether it writes a log of its changes, synced each second, so that
            a `restart` finds them again.
        further: Lines of its configuration that come last and win.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        attached: bool = True,
        certificates: Certificates | None = None,
        user: tuple[str, str] | None = None,
        durable: bool = False,
        further: Sequence[str] = (),
    ) -> None:
        self._temporary = folder is None
        self.folder = make_run_dir("redis") if folder is None else folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._attached, self._durable, self._further = attached, durable, further
        self._certificates, self._user = certificates, user
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """``SHIFTER_STATE``, with the user and the authority where there are any."""
        who = "" if self._user is None else ":".join(map(_quoted, self._user)) + "@"
        address = f"{who}127.0.0.1:{self.port}/0"
        if self._certificates is None:
            return f"redis://{address}"
        return (
            f"rediss://{address}?ssl_ca_certs={quote(str(self._certificates.ca_cert))}"
        )

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            Missing: Redis cannot be had here.
            StackError: It ended, or another server answers on its port.
        """
        program = redis_server()
        config = self.folder / "redis.conf"
        config.write_text(self._config())
        config.chmod(0o600)  # may hold a password
        log = self.folder / "redis.log"
        self._server = Server([program, str(config)], log, attached=self._attached)
        try:
            self._server.wait_for_port(self.port, timeout_s=_START_S)
            self._check_own()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it in order and remove a temporary folder."""
        if self._server is not None:
            self._server.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Crash it; unless it is durable, everything it held is gone."""
        self._running().kill()

    def restart(self) -> None:
        """Start it on its old port, ended first if it runs; waits until it answers."""
        self._running().stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: it accepts connections and never answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().signal(signal.SIGCONT)

    def _config(self) -> str:
        lines = [
            "bind 127.0.0.1",
            f'dir "{self.folder}"',
            'save ""',
            f"appendonly {'yes' if self._durable else 'no'}",
            "maxmemory-policy noeviction",
            # a changed title would hide what it was started as
            "set-proc-title no",
        ]
        if self._certificates is None:
            lines += [f"port {self.port}"]
        else:
            files = self._certificates
            lines += ["port 0", f"tls-port {self.port}", "tls-auth-clients no"]
            lines += [f'tls-cert-file "{files.server_cert}"']
            lines += [f'tls-key-file "{files.server_key}"']
            lines += [f'tls-ca-cert-file "{files.ca_cert}"']
        if self._user is not None:
            name, password = self._user
            lines += ["user default off", f"user {name} on >{password} ~* &* +@all"]
        return "\n".join([*lines, *self._further]) + "\n"

    def _check_own(self) -> None:
        with Redis.from_url(self.url, socket_timeout=5) as client:
            try:
                answering = client.info("server")["process_id"]
            except RedisError as refused:
                text = f"port {self.port} does not answer as our Redis: {refused}"
                raise StackError(text) from refused
        if answering != self.pid:
            raise StackError(f"process {answering} answers on {self.port}, not ours")

    def _running(self) -> Server:
        if self._server is None:
            raise StackError("redis-server was not started")
        return self._server

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _quoted(text: str) -> str:
    return quote(text, safe="")
