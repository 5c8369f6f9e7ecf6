"""The example services as processes of their own, on loopback."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from tests.acceptance.fleet import ROOT, Fleet

REPORTS = "examples.services.reports:app"
_SERVING = re.compile(rb"(?:serving|running) on (?:http://)?127\.0\.0\.1:(\d+)")
_START_S = 60.0


class Service:
    """One process that serves.

    Args:
        fleet: Whose log and state; ends the process too.
        command: Arguments to Python.
        settings: More of its environment.
    """

    def __init__(self, fleet: Fleet, *command: str, **settings: str) -> None:
        self._log = fleet.folder / f"worker-{len(fleet.workers)}.log"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                env=fleet.environment | settings,
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        fleet.workers.append(self.process)
        self.port = self._port()

    def _port(self) -> int:
        until = time.monotonic() + _START_S
        while (found := _SERVING.search(self._log.read_bytes())) is None:
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError(self._log.read_text(errors="replace"))
            time.sleep(0.02)
        return int(found[1])

    @property
    def rss_bytes(self) -> int:
        """What it holds in memory now."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * 4096


def web(fleet: Fleet, **settings: str) -> Service:
    """``examples.services.web`` behind uvicorn."""
    where = "--host", "127.0.0.1", "--port", "0"
    return Service(
        fleet, "-m", "uvicorn", "examples.services.web:service", *where, **settings
    )


def rpc(fleet: Fleet, *arguments: str, **settings: str) -> Service:
    """``examples.services.rpc``."""
    return Service(fleet, "-m", "examples.services.rpc", *arguments, **settings)
