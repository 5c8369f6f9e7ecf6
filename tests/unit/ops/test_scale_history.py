"""The forecast of a scaler outlives its process, and a store that loses everything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shifter import Shifter
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.config import Settings
from shifter.errors import StoreUnavailableError
from shifter.fleet.scale_history import HISTORY_CELLS
from shifter.model.fleet import MAX_RATE
from shifter.ops.scale_history import ScaleHistory
from shifter.ops.scaling import Planner
from shifter.ops.status import LaneRow, Overview
from shifter.ports import WorkerReport
from shifter.testing.clock import FakeClock

NOON = int(datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()) * 1_000
LANE = "shop.mail.high"


class Scaler:
    """One scaler process: its planner, and what it keeps in the store."""

    def __init__(self, clock, store) -> None:
        app = Shifter("shop", settings=Settings(namespace="shop"))
        app.worker_group("mail", queues=["mail"], ceiling=9)
        self.clock, self.store = clock, store
        self.planner = Planner(app, clock, remembers=True)
        self.history = ScaleHistory(self.planner)

    async def reads(self, *, hours: float, per_s: float) -> None:
        """Readings every five minutes of workers that end so many jobs a second."""
        for _ in range(int(hours * 12)):
            busy = WorkerReport(
                *("w", "h", 1, 0, 0, 10, {}, {}),
                queues=["mail"],
                priorities=["HIGH"],
                busy={LANE: 0.5},
            )
            row = LaneRow("mail", "HIGH", 0, 0, 0, None, per_s, None, due=0)
            self.planner.plan(
                Overview(self.clock.epoch_ms(), [row], [], [], [], [busy])
            )
            await self.history.save(self.store)
            self.clock.advance(300)

    @property
    def expected(self) -> dict:
        return dict(self.planner.learnt().get(LANE, {}))


@pytest.fixture
def clock() -> FakeClock:
    clock = FakeClock()
    clock.advance((NOON - clock.epoch_ms()) / 1_000)
    return clock


@pytest.fixture
def store(clock) -> MemoryFleetStore:
    return MemoryFleetStore(clock)


async def test_a_scaler_that_starts_again_expects_the_same_hours(clock, store):
    first = Scaler(clock, store)
    await first.reads(hours=2.1, per_s=40.0)
    second = Scaler(clock, store)

    await second.history.restore(store)

    assert second.expected == pytest.approx(first.expected)
    assert second.expected[12] == pytest.approx(40.0, rel=0.01)
    assert set(second.expected) == {12, 13}


async def test_what_is_expected_after_a_start_decides_the_number(clock, store):
    await Scaler(clock, store).reads(hours=2.1, per_s=800.0)
    clock.advance(22 * 3_600)  # the same hour of the next day
    new = Scaler(clock, store)
    await new.history.restore(store)

    await new.reads(hours=0.2, per_s=1.0)

    [demand] = new.planner.sizes["mail"].demands
    # 800 a second are expected; a job costs half of a worker now.
    assert demand.keep_up == pytest.approx(800 * 0.5 / 0.8, rel=0.05)
    # However large the forecast, the ceiling holds.
    assert new.planner.sizes["mail"].desired <= 9


async def test_a_store_that_lost_everything_is_written_again(clock, store):
    scaler = Scaler(clock, store)
    await scaler.reads(hours=2.1, per_s=40.0)
    store.table.cells.clear()

    await scaler.history.restore(store)  # as after each new connection
    await scaler.history.save(store)

    again = Scaler(clock, store)
    await again.history.restore(store)
    assert again.expected == pytest.approx(scaler.expected)


async def test_a_store_that_is_away_costs_no_number_and_is_asked_again(clock, store):
    class Away:
        async def sync(self, report):
            raise StoreUnavailableError("redis://h", "fleet.sync", "refused")

    scaler = Scaler(clock, Away())
    await scaler.reads(hours=2.1, per_s=40.0)
    assert scaler.expected != {}

    await scaler.history.save(store)

    again = Scaler(clock, store)
    await again.history.restore(store)
    assert again.expected == pytest.approx(scaler.expected)


async def test_cells_are_written_when_an_hour_has_ended_and_not_with_each_reading(
    clock, store
):
    scaler = Scaler(clock, store)
    await scaler.reads(hours=1.1, per_s=40.0)
    before = store.table.version

    await scaler.reads(hours=0.5, per_s=40.0)

    assert store.table.version == before


async def test_what_others_forge_changes_no_hour_that_was_seen_here(clock, store):
    scaler = Scaler(clock, store)
    await scaler.reads(hours=2.1, per_s=40.0)
    forged = b'{"hour":%d,"per_s":[%s]}' % (
        clock.epoch_ms() // 3_600_000,
        b",".join([str(MAX_RATE).encode()] * 24),
    )
    store.table.cells[HISTORY_CELLS + LANE] = forged
    store.table.cells[HISTORY_CELLS + "shop.nothing.high"] = forged

    await scaler.history.restore(store)

    assert scaler.expected[12] == pytest.approx(40.0, rel=0.01)
    assert list(scaler.planner.learnt()) == [LANE]
