"""What a service knows of its lanes, and how long."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLogAdmin
from shifter.adapters.memory.state import MemoryPresenceStore
from shifter.model.lane import Priority
from shifter.policy.admission.lane_outlook import next_rate
from shifter.ports import Record, TopicSpec, WorkerReport
from shifter.produce.watch import LaneSources, LaneWatch
from shifter.testing.clock import FakeClock

LANE = "shop.mail.low"


class Bench:
    """A lane, workers, and a watch that looks when told to."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.log = MemoryLog(self.clock)
        self.log.create(TopicSpec(LANE, 1, 86_400_000, 1_000_000))
        self.presence = MemoryPresenceStore(self.clock)
        self.sources = LaneSources(MemoryLogAdmin(self.log), self.presence)
        self.watch = LaneWatch(
            lambda: nullcontext(self.sources), lambda: [LANE], self.clock
        )

    async def look(
        self,
        *,
        waiting: int,
        rate_per_s: float | None,
        slots: int = 0,
        running: int = 0,
    ) -> None:
        self.log.append([Record(LANE, b"{}", ())] * waiting, 10**6)
        if rate_per_s is not None:
            report = WorkerReport(
                *("w", "h", 1, 0, 0, slots, {LANE: running}, {LANE: rate_per_s})
            )
            await self.presence.report(report, keep_ms=60_000)
        await self.watch.look(self.sources)


async def test_before_the_first_look_nothing_is_known():
    assert Bench().watch.facts(LANE) is None


async def test_a_look_finds_what_waits_and_how_fast_it_goes():
    bench = Bench()
    await bench.look(waiting=3, rate_per_s=6.0)

    assert bench.watch.facts(LANE)[:2] == (3, 6.0)


async def test_what_this_process_defers_counts_until_the_next_look():
    bench = Bench()
    await bench.look(waiting=3, rate_per_s=6.0)
    bench.watch.deferred(LANE)
    bench.watch.deferred(LANE)
    between = bench.watch.facts(LANE).waiting

    await bench.look(waiting=2, rate_per_s=6.0)

    assert (between, bench.watch.facts(LANE).waiting) == (5, 5)


async def test_what_runs_or_finds_a_free_slot_does_not_wait():
    bench = Bench()
    await bench.look(waiting=10, rate_per_s=6.0, slots=7, running=4)
    found = bench.watch.facts(LANE).waiting

    await bench.look(waiting=0, rate_per_s=6.0, slots=20, running=4)
    for _ in range(12):
        bench.watch.deferred(LANE)

    assert found == 10 - 4 - 3
    assert bench.watch.facts(LANE).waiting == 12 - (16 - 6)


async def test_a_view_grown_old_is_not_used():
    bench = Bench()
    await bench.look(waiting=3, rate_per_s=6.0)

    bench.clock.advance(31.0)

    assert bench.watch.facts(LANE) is None


async def test_looks_are_rarer_beside_thousands_of_workers():
    bench = Bench()
    await bench.look(waiting=0, rate_per_s=1.0)
    assert bench.watch.pause_s == 1.0

    for n in range(4_999):
        report = WorkerReport(*(f"w{n}", "h", n, 0, 0, 1, {}, {}))
        await bench.presence.report(report, keep_ms=60_000)
    await bench.watch.look(bench.sources)

    assert bench.watch.pause_s == 2.0


async def test_without_workers_the_rate_is_not_known():
    bench = Bench()
    await bench.look(waiting=3, rate_per_s=None)

    assert bench.watch.facts(LANE).rate_per_s is None


@pytest.mark.parametrize(
    ("known", "measured", "waiting", "expected"),
    [
        (None, 0.0, 5, None),
        (None, 4.0, 5, 4.0),
        (None, 4.0, 0, None),
        (8.0, 4.0, 5, 6.0),
        (8.0, 4.0, 0, 8.0),
        (8.0, 12.0, 0, 12.0),
    ],
)
def test_only_a_waiting_lane_tells_what_its_workers_can_do(
    known, measured, waiting, expected
):
    found = next_rate(known, measured, waiting=waiting, is_drained=True)

    assert found == expected


def test_lanes_have_names_by_queue_and_priority():
    from shifter.wiring import every_lane

    assert every_lane("shop", ["mail"])[0] == "shop.mail.critical"
    assert len(every_lane("shop", ["a", "b"])) == 2 * len(Priority)
