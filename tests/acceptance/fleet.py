"""Runs the real command against real servers, or on one file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from shifter.config.load import load_settings
from shifter.ports import Appended, Record
from shifter.wire.headers import Headers
from shifter.wiring import open_log

TARGET = "tests.acceptance.jobs:app"
ROOT = Path(__file__).parents[2]


class Fleet:
    """One namespace on the test servers, and the processes started for it."""

    def __init__(self, log: str, state: str, namespace: str, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        self.effects_file = folder / "effects"
        self.effects_file.touch()
        self.environment = {
            **os.environ,
            "SHIFTER_LOG": log,
            "SHIFTER_STATE": state,
            "SHIFTER_PARTITIONS": "3",
            # On a busy machine half a second is no sign of a store that is away.
            "SHIFTER_CLAIM_TIMEOUT": "5s",
            "TEST_NAMESPACE": namespace,
            "EFFECTS": str(self.effects_file),
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            ),
        }
        self.workers: list[subprocess.Popen[bytes]] = []

    def run(
        self, *arguments: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``shifter`` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "shifter.cli", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{arguments}: {done.returncode}\n{done.stderr}")
        return done

    def json(self, *arguments: str) -> Any:
        """Run ``shifter`` with ``--json`` and read what it prints."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def put(self, topic: str, value: bytes | None, headers: Headers) -> None:
        """Append a record as it is, past the door of this package."""
        if self.environment["SHIFTER_LOG"].startswith("kafka://"):
            servers = self.environment["SHIFTER_LOG"].removeprefix("kafka://")
            producer = Producer({"bootstrap.servers": servers.rstrip("/")})
            producer.produce(topic, value, headers=list(headers))
            assert producer.flush(10) == 0
            return
        settings = load_settings(self.namespace, environ=self.environment)
        log = open_log(settings)
        # A file has no record without a value.
        record = Record(topic, b"" if value is None else value, headers)
        assert log.append_sync([record], timeout_s=10) == [Appended()]
        assert log.close(timeout_s=10) == 0

    def work(self, *arguments: str, target: str = TARGET) -> subprocess.Popen[bytes]:
        """Start a worker in the background."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, "-m", "shifter.cli", "work", target, *arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=out,
                stderr=out,
            )
        self.workers.append(worker)
        return worker

    def children(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """Worker processes of a supervisor, without Python's own helpers."""
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
        return [
            int(pid)
            for pid in children.split()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def effects(self, name: str | None = None) -> list[list[str]]:
        """Lines of the effects file, split; those of one name where it is given."""
        lines = [line.split() for line in self.effects_file.read_text().splitlines()]
        return [line for line in lines if name is None or line[0] == name]

    def until(self, check: Callable[[], bool], *, timeout_s: float = 120) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: It did not within the timeout; shows what workers said.
        """
        until = time.monotonic() + timeout_s
        while not check():
            if time.monotonic() > until:
                raise AssertionError(f"not within {timeout_s} s\n{self.said()}")
            time.sleep(0.05)

    def said(self, most: int = 2_000) -> str:
        """The last ``most`` characters of each worker's log."""
        logs = sorted(self.folder.glob("worker-*.log"))
        return "\n".join(log.read_text(errors="replace")[-most:] for log in logs)

    def close(self) -> None:
        """End every worker that still runs."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
            worker.wait()
