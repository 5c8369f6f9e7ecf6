"""What a log must do that writes whole appends of one sender at a time."""

from __future__ import annotations

from typing import Protocol

from shifter.errors import StoreUnavailableError
from shifter.model.reason import Reason
from shifter.ports import AtomicLog, Record
from shifter.testing.conformance.log_bench import (
    PATIENCE_S,
    LogBench,
    collect,
    numbers,
    records_of,
    spread_records,
)


class AtomicLogBench(LogBench, Protocol):
    """A log that has whole appends too."""

    def atomic(self, name: str) -> AtomicLog:
        """Whole appends of a sender, not open; closed in the end."""


class AtomicLogConformance:
    """Tests of `shifter.ports.AtomicLog`; wants the fixture ``log_bench``."""

    async def test_what_is_written_together_is_there(
        self, log_bench: AtomicLogBench
    ) -> None:
        lane, other = await log_bench.lane(partitions=3), await log_bench.lane()
        log = log_bench.atomic("a")
        await log.open()
        wanted = [*spread_records(lane, range(50)), *records_of(other, [50])]

        told = await log.append(wanted, timeout_s=PATIENCE_S)

        assert told == {}
        assert sorted(await self.found(log_bench, lane, other)) == list(range(51))

    async def test_the_order_of_a_key_is_kept_over_appends(
        self, log_bench: AtomicLogBench
    ) -> None:
        lane, log = await log_bench.lane(partitions=3), log_bench.atomic("a")
        await log.open()

        for first in (0, 40, 80):
            some = records_of(lane, range(first, first + 40), key="k")
            await log.append(some, timeout_s=PATIENCE_S)

        assert await self.found(log_bench, lane) == list(range(120))

    async def test_one_that_is_refused_keeps_all_out(
        self, log_bench: AtomicLogBench
    ) -> None:
        lane, log = await log_bench.lane(), log_bench.atomic("a")
        await log.open()
        good = records_of(lane, range(3))
        large = Record(lane, bytes(2 * log_bench.max_record_bytes), [])

        told = await log.append([*good, large], timeout_s=PATIENCE_S)
        again = await log.append(good, timeout_s=PATIENCE_S)

        assert {place: why.reason for place, why in told.items()} == {
            3: Reason.TOO_LARGE
        }
        assert again == {}
        assert await self.found(log_bench, lane) == [0, 1, 2]

    async def test_a_sender_whose_name_was_taken_writes_nothing_more(
        self, log_bench: AtomicLogBench
    ) -> None:
        lane = await log_bench.lane()
        old, new = log_bench.atomic("a"), log_bench.atomic("a")
        await old.open()
        await old.append(records_of(lane, [0]), timeout_s=PATIENCE_S)
        await new.open()

        error: StoreUnavailableError | None = None
        try:
            await old.append(records_of(lane, [1]), timeout_s=PATIENCE_S)
        except StoreUnavailableError as raised:
            error = raised
        await new.append(records_of(lane, [2]), timeout_s=PATIENCE_S)

        assert error is not None
        assert await self.found(log_bench, lane) == [0, 2]

    async def test_senders_of_other_names_do_not_mind(
        self, log_bench: AtomicLogBench
    ) -> None:
        lane = await log_bench.lane()
        one, other = log_bench.atomic("a"), log_bench.atomic("b")
        await one.open()
        await other.open()

        await one.append(records_of(lane, [0]), timeout_s=PATIENCE_S)
        await other.append(records_of(lane, [1]), timeout_s=PATIENCE_S)

        assert await self.found(log_bench, lane) == [0, 1]

    async def test_a_name_that_was_taken_back_writes_again(
        self, log_bench: AtomicLogBench
    ) -> None:
        lane = await log_bench.lane()
        old, new = log_bench.atomic("a"), log_bench.atomic("a")
        await old.open()
        await new.open()
        await old.open()

        await old.append(records_of(lane, [0]), timeout_s=PATIENCE_S)

        assert await self.found(log_bench, lane) == [0]

    async def test_a_worker_comes_to_the_end_of_its_lane(
        self, log_bench: AtomicLogBench
    ) -> None:
        """Whatever a log writes of its own accord is no record that waits."""
        lane, log = await log_bench.lane(), log_bench.atomic("a")
        feed, admin = log_bench.feed(lane), log_bench.admin()
        await log.open()
        await feed.open()
        await log.append(records_of(lane, range(3)), timeout_s=PATIENCE_S)

        await feed.settle(await collect(feed, 3, clock=log_bench.clock))
        until, waiting = log_bench.clock.monotonic() + PATIENCE_S, -1
        while log_bench.clock.monotonic() < until and (waiting or not feed.idle()):
            await feed.fetch(1, wait_s=0.1)
            [(_, waiting, _, _)] = await admin.depths([lane])

        assert (feed.idle(), waiting) == (True, 0)

    async def found(self, log_bench: AtomicLogBench, *lanes: str) -> list[int]:
        """What lies in lanes."""
        return [
            number
            for lane in lanes
            async for batch in log_bench.admin().scan(lane)
            for number in numbers(batch)
        ]
