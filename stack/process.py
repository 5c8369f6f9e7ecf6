"""Starting and ending one server process, so that none is ever left behind.

An *attached* process dies with its parent, also when that is killed. A detached one
(``make stack``) is remembered by pid and *mark*: when and as what it was started. A pid
alone names no process, since it is used again, and nothing is ended in its place.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import SystemRandom
from typing import Final

from stack.errors import StackError

# The kernel sends the parent-death signal when the *thread* that started the child
# ends. This one lives as long as the process, so a server may be started from any.
_SPAWNER: Final = ThreadPoolExecutor(1, thread_name_prefix="stack-spawner")
# Below the range of outgoing connections, so that no client's connection takes the port
# of a broker that is down for a moment.
_PORTS: Final = range(20_000, 32_000)
_PROC: Final = Path("/proc")
_STATE, _START_TICKS = 0, 19


def free_port() -> int:
    """A TCP port of 127.0.0.1 that no process listens on now."""
    draw = SystemRandom()
    for _ in range(200):
        port = draw.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise StackError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")


def is_listening(port: int) -> bool:
    """Whether a process accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """One running server process.

    Args:
        command: Program and arguments.
        log: File that takes its output.
        attached: Whether it dies with this process.
        env: Its whole environment; this process's if None.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        attached: bool,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        spawned = _SPAWNER.submit(
            _spawn, [*_leash(attached=attached), *command], log, env
        )
        self._process = spawned.result()
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; a paused one runs."""
        return self._process.poll() is None

    def wait_for_port(self, port: int, *, timeout_s: float = 60.0) -> None:
        """Return once the server accepts connections.

        Raises:
            StackError: It ended, or did not accept within the timeout; carries the
                last lines it said.
        """
        until = time.monotonic() + timeout_s
        while not is_listening(port):
            if not self.is_running or time.monotonic() > until:
                tail = self.log.read_text(errors="replace")[-2_000:]
                raise StackError(f"server did not start on port {port}:\n{tail}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.is_running:
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


def mark_of(pid: int) -> str | None:
    """When and as what a process was started; ``None`` if it is gone.

    Take it once a server is ready: before, its program is still being exchanged.
    """
    if not _PROC.is_dir():
        return _mark_by_ps(pid)
    try:
        # the name, in brackets, may hold spaces and brackets itself
        fields = (_PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
        words = (_PROC / f"{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if fields[_STATE] in "ZX":
        return None
    command = " ".join(word.decode(errors="replace") for word in words)
    return f"{fields[_START_TICKS]} {' '.join(command.split())}"


def end_detached(pid: int, mark: str, *, timeout_s: float = 15.0) -> None:
    """End a process started by an earlier run, if it is still that one."""
    for number, patience_s in (
        (signal.SIGCONT, 0.0),  # a paused one could not obey
        (signal.SIGTERM, timeout_s),
        (signal.SIGKILL, 5.0),
    ):
        until = time.monotonic() + patience_s
        if mark_of(pid) == mark:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        while _is_there(pid, mark) and time.monotonic() < until:
            time.sleep(0.05)


def _spawn(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            # Ctrl-C in a terminal is for the tests, which then stop the server
            start_new_session=True,
        )


def _leash(*, attached: bool) -> list[str]:
    # Without setpriv (it is Linux's) a server outlives a parent that was killed.
    setpriv = shutil.which("setpriv")
    if not attached or setpriv is None:
        return []
    # A parent that dies before the signal is armed is never told of: look, then go on.
    guard = f'[ "$PPID" = {os.getpid()} ] && exec "$@"'
    return [setpriv, "--pdeathsig", "KILL", "--", "sh", "-c", guard, "guard"]


def _is_there(pid: int, mark: str) -> bool:
    # One that is ending has lost its command already, but not yet its ports.
    now = mark_of(pid)
    return now is not None and now.partition(" ")[0] == mark.partition(" ")[0]


def _mark_by_ps(pid: int) -> str | None:
    asked = ["ps", "-ww", "-o", "lstart=,command=", "-p", str(pid)]
    shown = subprocess.run(asked, capture_output=True, text=True, check=False)
    words = shown.stdout.split()
    return f"{'-'.join(words[:5])} {' '.join(words[5:])}" if words else None
