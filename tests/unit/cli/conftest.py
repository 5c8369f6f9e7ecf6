"""The command line over the memory adapters, in this process."""

from __future__ import annotations

import itertools
import json
import os
import sys
from typing import Any, NamedTuple

import pytest
import structlog

from shifter import wiring
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryAtomicLog, MemoryLaneLog, MemoryLogAdmin
from shifter.adapters.memory.state import (
    MemoryClaimStore,
    MemoryFleetStore,
    MemoryPresenceStore,
)
from shifter.cli import main
from shifter.testing.clock import FakeClock

SHOP = """
from __future__ import annotations
from shifter import Priority, Shifter

app = Shifter("shop")
other = "not an app"

@app.job(queue="mail", priority=Priority.LOW)
async def send_receipt(order_id: int, email: str = "") -> str:
    return email

@app.job
def ping() -> None: ...
"""

_numbers = itertools.count()
_OURS = ("shop_", "module_")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def problem(self) -> list[str]:
        """The three lines."""
        lines = self.err.splitlines()
        assert [line[:7] for line in lines] == ["error: ", "  why: ", "  fix: "], lines
        return [line[7:] for line in lines]


class World:
    """A log and a state store that every command of a test shares."""

    def __init__(self, capsys) -> None:
        self._capsys = capsys
        self.clock = FakeClock()
        self.log = MemoryLog(self.clock)
        self.admin = MemoryLogAdmin(self.log)
        self.claims = MemoryClaimStore(self.clock)
        self.presence = MemoryPresenceStore(self.clock)
        self.fleet = MemoryFleetStore(self.clock)

    def run(self, *arguments: object) -> Ended:
        # Each command is a process of its own, which reads its settings anew.
        for name in [name for name in sys.modules if name.startswith(_OURS)]:
            del sys.modules[name]
        code = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Ended(code, captured.out, captured.err)


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """No settings, an empty current directory, nothing left behind."""
    for name in list(os.environ):
        if name.startswith("SHIFTER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(os.environ)
    yield
    # Verbs that take an app write flags into the environment.
    os.environ.clear()
    os.environ.update(before)
    structlog.reset_defaults()


@pytest.fixture
def world(monkeypatch, capsys) -> World:
    """Memory instead of servers, with both URLs set."""
    world = World(capsys)
    monkeypatch.setattr(wiring, "open_log", lambda _: MemoryLaneLog(world.log))
    monkeypatch.setattr(
        wiring, "open_atomic_log", lambda _, name: MemoryAtomicLog(world.log, name)
    )
    monkeypatch.setattr(wiring, "open_fleet", lambda settings: world.fleet)
    monkeypatch.setattr(wiring, "open_admin", lambda settings: world.admin)
    monkeypatch.setattr(wiring, "open_claims", lambda *_, **__: world.claims)
    monkeypatch.setattr(wiring, "open_presence", lambda settings: world.presence)
    monkeypatch.setattr(wiring, "open_fleet", lambda settings: world.fleet)
    for verb in ("status", "deployment", "work_run"):
        monkeypatch.setattr(f"shifter.cli.{verb}.SystemClock", lambda: world.clock)
    os.environ |= {
        "SHIFTER_LOG": "kafka://nowhere:9092",
        "SHIFTER_STATE": "redis://nowhere:6379/0",
        "SHIFTER_NAMESPACE": "shop",
    }
    return world


@pytest.fixture
def shop(tmp_path) -> str:
    """MODULE:APP of a small app in the current directory."""
    name = f"shop_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(SHOP)
    return f"{name}:app"


@pytest.fixture
def module(tmp_path):
    """Write a module of any content; give its name."""

    def write(text: str) -> str:
        name = f"module_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write
