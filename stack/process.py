"""Starting and ending one server process, so that none is ever left behind.

An *attached* process dies with its parent, also when that is killed. A detached one
(``make stack``) is remembered by pid and start time, so that nothing else is ended in
its place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One running server process.

    Args:
        command: Program and arguments.
        log: File that takes its output.
        attached: Whether it dies with this process.
    """

    def __init__(self, command: Sequence[str], log: Path, *, attached: bool) -> None:
        guard = ["setpriv", "--pdeathsig", "KILL"] if attached else []
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=not attached,
            )
        self.pid = self._process.pid

    def wait_for_port(self, port: int, *, timeout_s: float = 60.0) -> None:
        """Return once the server accepts connections.

        Raises:
            RuntimeError: It ended, or did not accept within the timeout; carries the
                last lines it said.
        """
        until = time.monotonic() + timeout_s
        while not is_listening(port):
            if self._process.poll() is not None or time.monotonic() > until:
                tail = self.log.read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"server did not start on port {port}:\n{tail}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self, *, timeout_s: float = 15.0) -> None:
        """End it in order, then by force."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.signal(signal.SIGKILL)
        self._process.wait()


def started_at(pid: int) -> str | None:
    """When a process started, in ticks since boot; ``None`` if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def end_detached(pid: int, started: str, *, timeout_s: float = 15.0) -> None:
    """End a process started by an earlier run, if it is still that one."""
    for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
        until = time.monotonic() + patience_s
        if started_at(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while started_at(pid) == started and time.monotonic() < until:
            time.sleep(0.05)
