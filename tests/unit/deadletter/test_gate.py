"""A run stops when the circuit opens that its jobs call."""

from __future__ import annotations

import pytest

from shifter.adapters.memory.state import MemoryFleetStore, MemoryPresenceStore
from shifter.deadletter.gate import CircuitGate
from shifter.errors import StoreUnavailableError
from shifter.fleet.shared_state import (
    OverrideCell,
    by_hand_cell,
    circuit_cell,
    circuit_text,
)
from shifter.fleet.view import set_by_hand
from shifter.model.fleet import FleetReport, Proposal
from shifter.policy.protection.circuit.states import Closed, HalfOpen, Open
from shifter.ports import WorkerReport
from shifter.testing.clock import FakeClock

STOPPED = "circuit 'mailer' is open, and 'send' jobs call it"


class World:
    """A fleet whose workers send by a mailer."""

    def __init__(self):
        self.clock = FakeClock()
        self.fleet = MemoryFleetStore(self.clock)
        self.presence = MemoryPresenceStore(self.clock)
        self.gate = CircuitGate(self.fleet, self.presence, self.clock, "replayer")

    async def worker(self, **uses):
        report = WorkerReport("w", "h", 1, 0, 0, 10, {}, {}, uses)
        await self.presence.report(report, keep_ms=3_600_000)

    async def circuit(self, state):
        cell = circuit_cell("mailer")
        held = self.fleet.table.cells.get(cell, b"")
        change = Proposal(cell, held, circuit_text(state))
        report = FleetReport("w", 0.0, b"", is_alarmed=False, keep_ms=1, version=0)
        await self.fleet.sync(report._replace(proposals=[change]))

    async def by_hand(self, to):
        setting = OverrideCell(to, "ann", "\x1b[2J", 3_600_000)
        await set_by_hand(self.fleet, "cli", by_hand_cell("mailer"), setting)

    async def refusal(self, *job_types):
        self.clock.advance(2)
        return await self.gate.refusal(job_types or ["send"])


@pytest.fixture
async def world():
    world = World()
    await world.worker(send="mailer")
    return world


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        (Closed(4), None),
        (Open(5, 1, 9_000), STOPPED),
        (HalfOpen(6, 1, (), 0, 0), None),
    ],
)
async def test_the_fleets_circuit_decides(world, state, refusal):
    await world.circuit(state)

    assert await world.refusal() == refusal


async def test_an_override_stands_above_the_circuit(world):
    await world.by_hand("open")
    opened = await world.refusal()
    await world.circuit(Open(5, 1, 9_000))
    await world.by_hand("closed")

    assert (opened, await world.refusal()) == (STOPPED, None)


async def test_jobs_that_call_other_dependencies_or_none_go_on(world):
    await world.circuit(Open(5, 1, 9_000))
    await world.worker(send="mailer", bill="bank")

    assert await world.refusal("bill", "count") is None
    assert await world.refusal("bill", "send") == STOPPED


async def test_a_store_that_is_away_refuses_nothing_and_forgets_nothing(
    world, monkeypatch
):
    async def away(report):
        raise StoreUnavailableError("test", "sync", "away")

    before = await world.refusal()
    await world.circuit(Open(5, 1, 9_000))
    opened = await world.refusal()
    monkeypatch.setattr(world.fleet, "sync", away)

    assert (before, opened, await world.refusal()) == (None, STOPPED, STOPPED)


async def test_the_store_is_asked_once_a_second_at_most(world, monkeypatch):
    asked = []
    sync = world.fleet.sync

    async def counting(report):
        asked.append(report)
        return await sync(report)

    monkeypatch.setattr(world.fleet, "sync", counting)
    for _ in range(10):
        await world.gate.refusal(["send"])
        world.clock.advance(0.2)

    assert len(asked) == 2
