"""The gauges of lanes: one process of the fleet has them, and they are what waits."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.config.load import load_settings
from shifter.model.lane import Priority
from shifter.ops.scaling import ScaleGroup
from shifter.ops.status import Overview
from shifter.supervise import lane_gauges
from shifter.supervise.lane_gauges import LaneGauges, show, show_scale
from shifter.telemetry import FleetMetrics

PATIENCE_S = 60


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(lane_gauges, "EVERY_S", 0.05)
    path = tmp_path / "shop.db"
    monkeypatch.setenv("SHIFTER_LOG", f"sqlite://{path}")
    monkeypatch.setenv("SHIFTER_STATE", f"sqlite://{path}")
    monkeypatch.setenv("SHIFTER_NAMESPACE", "shop")
    return load_settings()


async def until(holds):
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


class Reader(LaneGauges):
    """Counts how often the lease was not to be had, or was lost."""

    tries = 0

    async def _hold(self, claims):
        try:
            await super()._hold(claims)
        finally:
            self.tries += 1


@contextlib.asynccontextmanager
async def reading(settings, metrics):
    reader = Reader(settings, metrics, SystemClock())
    reader.task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        reader.task.cancel()
        await asyncio.gather(reader.task, return_exceptions=True)


async def defer(settings, **options):
    app = Shifter("shop", settings=settings)

    @app.job(queue="mail")
    async def send(number: int) -> None: ...

    async with app:
        await send.options(**options).defer(1)


def value(metrics, name):
    return metrics.snapshot()[f"shifter_{name}"].get(("mail", "LOW"))


async def test_gauges_are_what_waits_on_the_lane(settings):
    await defer(settings, priority=Priority.LOW, deadline="1h")
    await defer(settings, priority=Priority.LOW, delay="30m")
    metrics = FleetMetrics()

    async with reading(settings, metrics):
        await until(lambda: value(metrics, "lane_waiting") is not None)
        found = metrics.snapshot()

    of = {name: series.get(("mail", "LOW")) for name, series in found.items()}
    assert of["shifter_lane_waiting"] == of["shifter_lane_due"] == 1
    assert of["shifter_lane_delayed"] == 1
    assert of["shifter_lane_drain_rate"] == 0
    assert of["shifter_lane_due_backlog_seconds"] is None
    assert of["shifter_lane_eta_seconds"] is None
    assert 0 < of["shifter_lane_tightest_deadline_seconds"] <= 3_600
    assert 0 <= of["shifter_lane_oldest_due_seconds"] < PATIENCE_S * 10


async def test_one_process_of_the_fleet_has_the_series_and_another_takes_over(settings):
    await defer(settings, priority=Priority.LOW)
    first, second = FleetMetrics(), FleetMetrics()

    async with reading(settings, first) as holder:
        await until(lambda: value(first, "lane_waiting") == 1)
        async with reading(settings, second) as other:
            await until(lambda: other.tries >= 1)
            assert value(first, "lane_waiting") == 1
            assert value(second, "lane_waiting") is None
            holder.task.cancel()
            await until(lambda: value(second, "lane_waiting") == 1)
            assert value(first, "lane_waiting") is None


async def test_gauges_go_while_the_log_cannot_be_read_and_come_back(
    settings, monkeypatch
):
    await defer(settings, priority=Priority.LOW)
    metrics, is_broken, read = FleetMetrics(), False, lane_gauges.read_overview

    async def read_overview(sources):
        if is_broken:
            raise RuntimeError("no such thing")
        return await read(sources)

    monkeypatch.setattr(lane_gauges, "read_overview", read_overview)
    async with reading(settings, metrics):
        await until(lambda: value(metrics, "lane_waiting") == 1)
        is_broken = True
        await until(lambda: value(metrics, "lane_waiting") is None)
        is_broken = False
        await until(lambda: value(metrics, "lane_waiting") == 1)


async def test_numbers_of_workers_are_gauges_until_the_state_store_is_away():
    metrics = FleetMetrics()
    group = ScaleGroup("mail", 1, 3, 60.0, "due_backlog")
    away = Overview(0, [], [], [], [], [])

    show_scale([group], metrics)
    shown = metrics.snapshot()
    show(away, metrics)

    names = ("workers", "desired_workers", "due_backlog_seconds")
    assert [shown[f"shifter_scale_{name}"] for name in names] == [
        {("mail",): 1},
        {("mail",): 3},
        {("mail",): 60.0},
    ]
    left = metrics.snapshot()
    assert [left[f"shifter_scale_{name}"] for name in names] == [{}, {}, {}]
