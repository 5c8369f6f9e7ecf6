"""A canary goes through each lane, and the worker that runs it measures how long."""

from __future__ import annotations

import asyncio

import pytest

from shifter.adapters.memory.log import MemoryLogAdmin
from shifter.config import Settings
from shifter.config.load import load_settings
from shifter.model.lane import Lane, Priority
from shifter.supervise import lane_gauges
from shifter.supervise.canary import NAME, Canary, CanarySender
from shifter.telemetry import FleetMetrics
from shifter.testing.clock import FakeClock
from tests.integration.drain_world import World
from tests.integration.test_lane_gauges import reading, until

SETTINGS = Settings(namespace="shop", canary_ms=60_000)


@pytest.fixture
async def world():
    world = World()

    @world.app.job(queue="mail")
    async def send() -> None: ...

    await world.open()
    return world


def lanes(*priorities):
    return [Lane("shop", "mail", priority) for priority in priorities]


async def waiting(world, every):
    depths = await MemoryLogAdmin(world.log).depths([lane.name for lane in every])
    return [depth.waiting for depth in depths]


async def test_one_canary_goes_to_each_lane_at_its_interval(world):
    clock, every = FakeClock(), lanes(*Priority)
    sender = CanarySender(SETTINGS, clock, world.lane_log)

    await sender.send(every)
    clock.advance(59)
    await sender.send(every)
    first = await waiting(world, every)
    clock.advance(1)
    await sender.send(every)

    assert first == [1] * 4
    assert await waiting(world, every) == [2] * 4


async def test_a_worker_measures_how_long_a_canary_was_under_way(world):
    every = lanes(Priority.LOW, Priority.HIGH)
    canary = Canary(clock=world.clock, metrics=world.metrics)
    world.app.handlers[NAME] = canary
    await CanarySender(SETTINGS, world.clock, world.lane_log).send(every)
    await asyncio.sleep(0.3)

    async with world.working():
        await world.until(lambda: len(trips(world)) == 2)

    assert set(trips(world)) == {("mail", "LOW"), ("mail", "HIGH")}
    for bars in trips(world).values():
        assert sum(bars.counts) == 1
        assert 0.3 <= bars.total < 60
    assert world.metrics.snapshot()["shifter_jobs_total"] == {
        ("mail", "LOW", "done"): 1,
        ("mail", "HIGH", "done"): 1,
    }


def trips(world):
    return world.metrics.snapshot()["shifter_canary_round_trip_seconds"]


async def test_a_worker_without_the_setting_does_not_know_the_job(world):
    await CanarySender(SETTINGS, world.clock, world.lane_log).send(lanes(Priority.LOW))

    def misfits():
        return world.metrics.snapshot()["shifter_misfits_total"]

    async with world.working():
        await world.until(lambda: bool(misfits()))

    assert misfits() == {("mail", NAME, "unknown_job"): 1}


async def test_the_holder_of_the_lease_sends_canaries(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_gauges, "EVERY_S", 0.05)
    path = tmp_path / "shop.db"
    monkeypatch.setenv("SHIFTER_LOG", f"sqlite://{path}")
    monkeypatch.setenv("SHIFTER_NAMESPACE", "shop")
    monkeypatch.setenv("SHIFTER_CANARY", "1h")
    settings, metrics = load_settings(), FleetMetrics()
    admin = lane_gauges.wiring.open_admin(settings)
    await admin.apply(lane_gauges.wiring.topic_specs(settings, ["mail"]))
    await admin.close()

    def counts():
        return list(metrics.snapshot()["shifter_lane_waiting"].values())

    async with reading(settings, metrics):
        await until(lambda: counts() == [1] * 4)
