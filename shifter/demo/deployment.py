"""Starts and ends all of a run beside the demo's process: folder, backend, workers.

The temporary folder has the log and the settings. The workers are started as a user
starts them: ``shifter work … --processes 2``. All of it ends with the block, and also
when the demo itself is killed (`shifter.demo.reaper`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import shifter
from shifter import wiring
from shifter.config import Settings, load_settings
from shifter.demo import reaper
from shifter.demo.app import NAMESPACE, QUEUE, TARGET

SLOTS: Final = 20
"""Of the backend: the recorded hour needs 14 on average, its worst minute 30."""

PROCESSES: Final = 2

_READY_S: Final = 15.0
# The name of a UNIX socket may have 104 bytes on macOS.
_FOLDER_LENGTH: Final = 60
_CONFIG: Final = {
    "concurrency": SLOTS // PROCESSES,
    # Short, so that the jobs of a killed worker come back while the demo is watched.
    "lease": "3s",
    "drain_timeout": "5s",
}


class DeploymentError(Exception):
    """A part did not start, or ended by itself; the text ends with its last lines."""


class Servers(NamedTuple):
    """URLs of a log and a state store; ``None`` plays on a file in the folder."""

    log: str | None = None
    state: str | None = None

    def namespace(self) -> str:
        """A namespace of this run alone, since servers may hold earlier runs."""
        is_own = self.log is None and self.state is None
        return NAMESPACE if is_own else f"{NAMESPACE}-{secrets.token_hex(3)}"


class Deployment:
    """The processes of a run and their folder.

    Attributes:
        folder: Holds database, settings and the workers' log; removed at the end.
        settings: Of this run.
        socket: Where the backend listens.
    """

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.folder, self.socket = folder, str(folder / "backend")
        self._config = folder / "shifter.toml"
        self._config.write_text(_toml(folder, servers), encoding="utf-8")
        flags = {"config": str(self._config)}
        self.settings: Settings = load_settings(
            servers.namespace(), flags=flags, environ=_kafka()
        )
        self._parts: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, speed: float) -> None:
        """Make the topics, then start backend and workers.

        Raises:
            DeploymentError: The backend does not start.
            StoreError: The log does not answer.
        """
        async with wiring.opened_admin(self.settings) as admin:
            await admin.apply(wiring.topic_specs(self.settings, [QUEUE]))
        await self._start_backend(speed)
        command = [sys.executable, "-m", "shifter.cli", "work", TARGET]
        sizes = ["--processes", str(PROCESSES), "--wait", f"{_READY_S:.0f}s"]
        reaped = [sys.executable, "-I", reaper.__file__, str(self.folder)]
        await self._spawn("workers", [*reaped, *command, *sizes])

    async def stop_workers(self) -> None:
        """Let the workers finish what they run, and end."""
        workers = self._parts["workers"]
        if workers.returncode is None and workers.stdin is not None:
            with contextlib.suppress(ConnectionError):
                workers.stdin.write(b"end\n")
                await workers.stdin.drain()
        await workers.wait()

    def check(self) -> None:
        """Check that every part still runs.

        Raises:
            DeploymentError: One has ended by itself.
        """
        for name, process in self._parts.items():
            if process.returncode is not None:
                raise DeploymentError(f"the {name} ended: {self._last_lines(name)}")

    def kill(self) -> None:
        """End everything at once."""
        for process in self._parts.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End what still runs."""
        self.kill()
        for process in self._parts.values():
            await process.wait()
            if process.stdin is not None:
                process.stdin.close()

    async def _start_backend(self, speed: float) -> None:
        module = [sys.executable, "-m", "shifter.demo.backend"]
        sizes = [self.socket, str(SLOTS), repr(speed)]
        backend = await self._spawn("backend", [*module, *sizes])
        if backend.stdout is None or await backend.stdout.readline() != b"ready\n":
            await backend.wait()
            self.check()

    async def _spawn(self, name: str, command: list[str]) -> asyncio.subprocess.Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            # In a session of its own Ctrl-C does not reach it: the demo ends it.
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.folder,
                env=self._environ(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if name == "backend" else log,
                stderr=log,
                start_new_session=True,
            )
        self._parts[name] = process
        return process

    def _environ(self) -> dict[str, str]:
        # The user's own settings are left out: the demo must not play on a real log.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SHIFTER_")}
        root = str(Path(shifter.__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
        return {
            **kept,
            **_kafka(),
            "PYTHONPATH": path,
            # Files that a killed worker could not remove go with the folder.
            "TMPDIR": str(self.folder),
            "SHIFTER_CONFIG": str(self._config),
            "DEMO_BACKEND": self.socket,
            "DEMO_NAMESPACE": self.settings.namespace,
        }

    def _last_lines(self, name: str) -> str:
        log = self.folder / f"{name}.log"
        lines = log.read_text("utf-8", "replace").split("\n") if log.exists() else []
        return " / ".join(line.strip() for line in lines[-6:] if line.strip())


@contextlib.asynccontextmanager
async def open_deployment(servers: Servers) -> AsyncGenerator[Deployment]:
    """A deployment that has not started; nothing of it is left after the block."""
    folder = _new_folder()
    try:
        deployment = Deployment(folder, servers)
        try:
            yield deployment
        finally:
            await asyncio.shield(deployment.close())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="shifter-demo-")
    if len(folder) > _FOLDER_LENGTH:
        # A folder in the shared /tmp is safe, since mkdtemp gives it the mode 0700.
        shutil.rmtree(folder)
        folder = tempfile.mkdtemp(prefix="shifter-demo-", dir="/tmp")
    return Path(folder)


def _toml(folder: Path, servers: Servers) -> str:
    own = f"sqlite://{folder / 'demo.db'}"
    values = {"log": servers.log or own, "state": servers.state or own, **_CONFIG}
    # A JSON text or number is one in TOML.
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _kafka() -> Mapping[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("SHIFTER_KAFKA__")}
