"""One worker is drained by an order that it alone reads; texts of reports are bounded."""

from __future__ import annotations

import msgspec
import pytest

from shifter import wiring
from shifter.adapters.memory.state import MemoryFleetStore, MemoryPresenceStore
from shifter.config import Settings
from shifter.errors import ConfigError, UnknownNameError
from shifter.fleet.drain_order import DRAIN_CELLS, drain_cell
from shifter.fleet.shared_state import read_setting
from shifter.fleet.view import cells_of
from shifter.ops.worker_view import view_worker
from shifter.ops.workers import drain_worker
from shifter.ports import SlowestJob, WorkerReport, decode_report, encode_report
from shifter.testing.clock import FakeClock

SETTINGS = Settings(namespace="shop")
REPORT = WorkerReport("w1", "h", 7, 1_000, 60_000, 10, {"shop.mail.low": 3}, {})
FULL = msgspec.structs.replace(
    REPORT,
    version="0.5.0",
    app_version="2026.11",
    slowest=SlowestJob("j1", "send", 61.0),
    progress_ms=59_000,
)


class World:
    """A fleet's stores, by one clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.fleet = MemoryFleetStore(self.clock)
        self.presence = MemoryPresenceStore(self.clock)

    async def report(self, worker_id: str) -> None:
        report = msgspec.structs.replace(FULL, worker_id=worker_id)
        await self.presence.report(report, keep_ms=10_000)

    async def drain(self, worker_id: str, owner: str = "ann"):
        return await drain_worker(SETTINGS, worker_id, owner=owner, reason="a drill")

    async def orders(self) -> dict[str, bytes]:
        cells, _ = await cells_of(self.fleet, "test")
        return {name: cells[name] for name in cells if name.startswith(DRAIN_CELLS)}


@pytest.fixture
async def world(monkeypatch) -> World:
    world = World()
    monkeypatch.setattr(wiring, "open_fleet", lambda settings: world.fleet)
    monkeypatch.setattr(wiring, "open_presence", lambda settings: world.presence)
    await world.report("w1")
    await world.report("w2")
    return world


async def test_an_order_names_its_worker_its_owner_and_its_reason(world):
    await world.drain("w1")

    [(name, text)] = (await world.orders()).items()
    order = read_setting(text)
    assert name == drain_cell("w1")
    assert (order.to, order.owner, order.reason) == ("drain", "ann", "a drill")


async def test_of_two_operators_the_first_one_is_obeyed_and_named_to_the_other(world):
    first, second = await world.drain("w1"), await world.drain("w1", owner="bob")

    assert (first.owner, second.owner) == ("ann", "ann")
    assert len(await world.orders()) == 1


async def test_an_order_that_is_over_leaves_with_the_next_one(world):
    await world.drain("w1")
    world.clock.advance(3_601)
    await world.report("w2")

    await world.drain("w2")

    assert list(await world.orders()) == [drain_cell("w2")]


async def test_an_unknown_worker_is_refused_with_those_that_live(world):
    with pytest.raises(UnknownNameError, match="live workers: w1, w2"):
        await world.drain("w3")

    assert await world.orders() == {}


async def test_a_worker_that_knows_no_orders_is_refused(world):
    old = msgspec.structs.replace(REPORT, worker_id="old")
    await world.presence.report(old, keep_ms=10_000)

    with pytest.raises(ConfigError, match="older release"):
        await world.drain("old")


def test_a_worker_is_shown_with_versions_slowest_job_and_last_end():
    view = view_worker(FULL, 62_000)

    assert view[1:] == (3, "0.5.0, app 2026.11", "send for 1m1s, j1", "3.0s ago", "2.0s ago")  # fmt: skip


def test_a_worker_of_an_older_release_is_shown_as_not_known():
    old = decode_report(
        b'{"worker_id":"w","host":"h","pid":7,"started_ms":1,"reported_ms":2,'
        b'"concurrency":3,"running":{},"rate_per_s":{}}'
    )

    assert old is not None
    assert view_worker(old, 2)[1:] == (0, None, None, None, "0.0s ago")


@pytest.mark.parametrize(
    "facts",
    [
        {"version": "x" * 201},
        {"app_version": ["x"]},
        {"slowest": {"job_id": "j", "type": "x" * 201, "running_s": 1.0}},
        {"slowest": {"job_id": "j", "type": "x", "running_s": -1.0}},
        {"progress_ms": -1},
        {"is_draining": "yes"},
    ],
    ids=str,
)
def test_a_report_that_no_worker_writes_is_no_worker(facts):
    raw = msgspec.json.encode({**msgspec.to_builtins(FULL), **facts})

    assert decode_report(encode_report(FULL)) == FULL
    assert decode_report(raw) is None
