"""The processes of a run: workers that are broken and replaced, producers, the witness.

A member is a slot: whoever kills its process fills the slot again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from shifter.runtime.heartbeat_socket import heartbeat_sockets
from shifter.work.heartbeat import Heartbeat, newest_heartbeat
from tests.torture.faults.process import children
from tests.torture.harness.worker import TARGET

ROOT: Final = Path(__file__).parents[3]
_GRACE_S: Final = 40.0
_ANSWERS_S: Final = 60.0
_INSTANCE: Final = "SHIFTER_KAFKA__GROUP_INSTANCE_ID"


class Service:
    """The service that defers jobs: one process, replaced when it is killed.

    Args:
        start: Starts the n-th process, from 0.
    """

    def __init__(self, start: Callable[[int], subprocess.Popen[bytes]]) -> None:
        self._start, self._count = start, 0
        self._process = start(0)

    @property
    def pid(self) -> int:
        """Of the process that offers now."""
        return self._process.pid

    def kill(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """SIGKILL, and another process at once.

        Args:
            meanwhile: Called between the two.
        """
        self._process.kill()
        self._process.wait()
        meanwhile()
        self._count += 1
        self._process = self._start(self._count)

    def end(self) -> None:
        """Offer no more; returns when all questions are answered.

        Raises:
            AssertionError: They are not, or it did not leave in order.
        """
        self._process.terminate()
        code = self._process.wait(_ANSWERS_S)
        assert code == 0, f"the service left with {code}"

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()


class Crew:
    """Worker processes in slots.

    Args:
        folder: For what they say.
        environment: Of every process.
        members: Slots, >= 1.
        concurrency: Of each worker.
        is_supervised: Whether a slot is ``shifter work``, with a supervisor, or a bare
            worker process.
        is_static: Whether who fills a slot again has the same name in Kafka's group.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        members: int,
        concurrency: int = 50,
        is_supervised: bool = False,
        is_static: bool = False,
    ) -> None:
        self._folder, self._environment = folder, dict(environment)
        self._concurrency, self._is_supervised = concurrency, is_supervised
        self._is_static = is_static
        self.members = members
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lines: dict[int, socket.socket] = {}
        self._said: dict[int, Heartbeat] = {}
        self._away: set[int] = set()
        self._lock = threading.RLock()

    def refill(self) -> None:
        """Fill every slot that is empty, unless its worker was sent away."""
        with self._lock:
            for slot in set(range(self.members)) - self._away:
                process = self._processes.get(slot)
                if process is None or process.poll() is not None:
                    self.start(slot)

    def start(self, slot: int) -> None:
        """Fill a slot, unless its process lives."""
        with self._lock:
            self._away.discard(slot)
            process = self._processes.get(slot)
            if process is None or process.poll() is not None:
                self._start(slot)

    def _start(self, slot: int) -> None:
        name, concurrency = f"worker-{slot}", str(self._concurrency)
        if self._is_supervised:
            command = ("shifter.cli", "work", TARGET, "--concurrency", concurrency)
            self._processes[slot] = self.run(name, *command)
            return
        named = {_INSTANCE: f"slot-{slot}"} if self._is_static else {}
        ours, theirs = heartbeat_sockets()
        with theirs:
            line = theirs.fileno()
            command = ("tests.torture.harness.worker", concurrency, str(line))
            process = self.run(name, *command, line=line, **named)
        self._processes[slot], self._lines[process.pid] = process, ours

    def listen(self) -> dict[int, Heartbeat]:
        """What each worker last said of itself, those that are gone too."""
        with self._lock:
            living = set(self.pids)
            for pid, line in list(self._lines.items()):
                pulse = newest_heartbeat(line)
                if pulse is not None:
                    self._said[pid] = pulse
                if pid not in living:
                    self._lines.pop(pid).close()
            return dict(self._said)

    def run(
        self, name: str, *module: str, line: int | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a Python module; what it says goes to a file."""
        with (self._folder / f"{name}.log").open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", *module],
                env=self._environment | environment,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                pass_fds=() if line is None else (line,),
            )

    def pid(self, slot: int) -> int:
        """The process of a slot that runs jobs."""
        process = self._processes[slot]
        if not self._is_supervised:
            return process.pid
        for pid in children(process.pid):
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return process.pid

    @property
    def pids(self) -> list[int]:
        """Processes that run jobs and live."""
        return [
            self.pid(slot)
            for slot, process in self._processes.items()
            if process.poll() is None
        ]

    def kill(self, slot: int) -> None:
        """SIGKILL, and another process at once."""
        with self._lock:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid(slot), signal.SIGKILL)
            if not self._is_supervised:
                self._processes[slot].wait()
                self.start(slot)

    def kill_all(self, meanwhile: Callable[[], None]) -> None:
        """SIGKILL to all, and others at once.

        Args:
            meanwhile: Called between the two.
        """
        with self._lock:
            for process in self._processes.values():
                process.kill()
            for process in self._processes.values():
                process.wait()
            meanwhile()
            self.refill()

    def restart(self, slot: int) -> None:
        """SIGTERM, wait until it has left, and start another one."""
        self.leave(slot)
        self.start(slot)

    def leave(self, slot: int) -> None:
        """SIGTERM, and wait until it has left; its slot stays empty until `start`.

        Raises:
            AssertionError: It did not leave within its grace, or not in order.
        """
        with self._lock:
            self._away.add(slot)
            process = self._processes[slot]
            process.terminate()
        try:
            code = process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"worker {slot} did not leave") from None
        # One that is asked while it still starts has nothing to end, and may have
        # found its brokers away (69).
        assert code in (0, 69, -signal.SIGTERM), f"worker {slot} left with {code}"

    def stop(self) -> list[int]:
        """Let all leave; returns their exit codes. Kills who does not."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        until = time.monotonic() + _GRACE_S
        codes = []
        for process in self._processes.values():
            try:
                codes.append(process.wait(max(0.1, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                for pid in children(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.kill()
                codes.append(process.wait())
        return codes

    def said(self, most: int = 1_500) -> str:
        """The last words of each."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-most:]}" for log in logs
        )
