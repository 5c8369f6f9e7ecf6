"""The suites of the accepting sides of a log: single records, and whole appends."""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from shifter.errors import StoreUnavailableError
from shifter.model.reason import Reason
from shifter.ports import AppendAnswer, Appended, AtomicLog, Record, Refused
from shifter.testing.conformance.log_bench import (
    PATIENCE_S,
    LogBench,
    LogSuite,
    numbers,
    records_of,
    spread_records,
)


class LaneLogConformance(LogSuite):
    """Tests of `shifter.ports.LaneLog`; needs the fixture ``log_bench``."""

    async def test_appended_records_arrive_as_written(self) -> None:
        lane = await self.bench.lane()
        headers = [("a", b"1"), ("b", b"\x00\xff"), ("a", b""), ("none", None)]
        record = Record(lane, b'{"n": 1}', list(headers), b"key")
        before = self.clock.epoch_ms()

        await self.append([record])
        feed = await self.opened(lane)
        [found] = await self.collect(feed, 1)

        assert (found.topic, found.key, found.value) == (lane, b"key", record.value)
        assert found.headers == headers
        assert abs(found.appended_ms - before) < 1_000 * PATIENCE_S

    async def test_every_record_has_one_answer_in_order(self) -> None:
        lane = await self.bench.lane()
        too_large = Record(lane, bytes(self.bench.max_record_bytes + 1), [])
        good = records_of(lane, range(3))

        answers = await self.bench.log().append(
            [good[0], too_large, good[1], too_large, good[2]], timeout_s=PATIENCE_S
        )

        assert [type(answer) for answer in answers] == [
            *(Appended, Refused, Appended, Refused, Appended)
        ]

    async def test_no_records_have_no_answers(self) -> None:
        assert await self.bench.log().append([], timeout_s=1) == []

    async def test_order_of_one_key_is_kept(self) -> None:
        lane = await self.bench.lane(partitions=4)
        log, feed = self.bench.log(), self.bench.feed(lane)
        await feed.open()
        for first in range(0, 300, 100):
            batch = [
                record
                for number in range(first, first + 100)
                for key in ("a", "b", "c")
                for record in records_of(lane, [number], key=key)
            ]
            answers = await log.append(batch, timeout_s=PATIENCE_S)
            assert set(answers) == {Appended()}

        found = await self.collect(feed, 900)

        for key in (b"a", b"b", b"c"):
            of_key = [delivery for delivery in found if delivery.key == key]
            assert numbers(of_key) == list(range(300))

    async def test_concurrent_appends_are_all_answered(self) -> None:
        lane, log = await self.bench.lane(), self.bench.log()

        async def one(number: int) -> list[AppendAnswer]:
            return await log.append(records_of(lane, [number]), timeout_s=PATIENCE_S)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(200)]

        assert all(task.result() == [Appended()] for task in tasks)
        feed = await self.opened(lane)
        found = await self.collect(feed, 200)
        assert sorted(numbers(found)) == list(range(200))

    async def test_the_largest_record_is_taken_and_one_byte_more_refused(self) -> None:
        lane, log = await self.bench.lane(), self.bench.log()
        headers: list[tuple[str, bytes | None]] = [("name", b"1234")]
        room = self.bench.max_record_bytes - len("key") - len("name") - 4

        largest, larger = await log.append(
            [
                Record(lane, bytes(room), headers, b"key"),
                Record(lane, bytes(room + 1), headers, b"key"),
            ],
            timeout_s=PATIENCE_S,
        )

        assert largest == Appended()
        assert isinstance(larger, Refused)
        assert larger.reason == Reason.TOO_LARGE

    async def test_an_unknown_topic_is_refused(self) -> None:
        lane = await self.bench.lane()

        [answer] = await self.bench.log().append(
            records_of(f"{lane}-not-there", [1]), timeout_s=PATIENCE_S
        )

        assert isinstance(answer, Refused)
        assert answer.reason == Reason.REFUSED_BY_LOG

    async def test_append_sync_writes_like_append(self) -> None:
        lane, log = await self.bench.lane(), self.bench.log()
        too_large = Record(lane, bytes(self.bench.max_record_bytes + 1), [])

        answers = await asyncio.to_thread(
            log.append_sync, [*records_of(lane, [7]), too_large], timeout_s=PATIENCE_S
        )

        assert [type(answer) for answer in answers] == [Appended, Refused]
        feed = await self.opened(lane)
        assert numbers(await self.collect(feed, 1)) == [7]

    async def test_a_closed_log_refuses(self) -> None:
        lane, log = await self.bench.lane(), self.bench.log(fresh=True)
        await log.append(records_of(lane, [1]), timeout_s=PATIENCE_S)

        assert log.close(timeout_s=PATIENCE_S) == 0
        [answer] = await log.append(records_of(lane, [2]), timeout_s=1)

        assert isinstance(answer, Refused)
        assert answer.reason == Reason.CLOSED
        assert log.close(timeout_s=1) == 0


class AtomicLogBench(LogBench, Protocol):
    """Access to a log that also has whole appends."""

    def atomic(self, name: str) -> AtomicLog:
        """Whole appends of a sender, not open; the bench closes it."""


class AtomicLogConformance(LogSuite):
    """Tests of `shifter.ports.AtomicLog`; needs the fixture ``log_bench``."""

    bench: AtomicLogBench

    async def _sender(self, name: str) -> AtomicLog:
        """Whole appends under this name, open."""
        log = self.bench.atomic(name)
        await log.open()
        return log

    async def test_all_records_of_one_append_arrive(self) -> None:
        lane, other = await self.bench.lane(partitions=3), await self.bench.lane()
        log = await self._sender("a")
        wanted = [*spread_records(lane, range(50)), *records_of(other, [50])]

        refused = await log.append(wanted, timeout_s=PATIENCE_S)

        assert refused == {}
        assert sorted([*await self.scan(lane), *await self.scan(other)]) == list(
            range(51)
        )

    async def test_the_order_of_a_key_is_kept_over_appends(self) -> None:
        lane, log = await self.bench.lane(partitions=3), await self._sender("a")

        for first in (0, 40, 80):
            some = records_of(lane, range(first, first + 40), key="k")
            await log.append(some, timeout_s=PATIENCE_S)

        assert await self.scan(lane) == list(range(120))

    async def test_one_refused_record_keeps_the_whole_append_out(self) -> None:
        lane, log = await self.bench.lane(), await self._sender("a")
        good = records_of(lane, range(3))
        large = Record(lane, bytes(2 * self.bench.max_record_bytes), [])

        refused = await log.append([*good, large], timeout_s=PATIENCE_S)
        again = await log.append(good, timeout_s=PATIENCE_S)

        reasons = {place: answer.reason for place, answer in refused.items()}
        assert reasons == {3: Reason.TOO_LARGE}
        assert again == {}
        assert await self.scan(lane) == [0, 1, 2]

    async def test_a_sender_whose_name_was_taken_writes_nothing_more(self) -> None:
        lane = await self.bench.lane()
        old, new = self.bench.atomic("a"), self.bench.atomic("a")
        await old.open()
        await old.append(records_of(lane, [0]), timeout_s=PATIENCE_S)
        await new.open()

        with pytest.raises(StoreUnavailableError):
            await old.append(records_of(lane, [1]), timeout_s=PATIENCE_S)
        await new.append(records_of(lane, [2]), timeout_s=PATIENCE_S)

        assert await self.scan(lane) == [0, 2]

    async def test_senders_of_different_names_both_write(self) -> None:
        lane = await self.bench.lane()
        one, other = await self._sender("a"), await self._sender("b")

        await one.append(records_of(lane, [0]), timeout_s=PATIENCE_S)
        await other.append(records_of(lane, [1]), timeout_s=PATIENCE_S)

        assert await self.scan(lane) == [0, 1]

    async def test_a_name_that_was_taken_back_writes_again(self) -> None:
        lane = await self.bench.lane()
        old, new = self.bench.atomic("a"), self.bench.atomic("a")
        await old.open()
        await new.open()
        await old.open()

        await old.append(records_of(lane, [0]), timeout_s=PATIENCE_S)

        assert await self.scan(lane) == [0]

    async def test_a_feed_reaches_the_end_of_its_lane(self) -> None:
        """Records that the log writes for itself do not count as waiting."""
        lane, log = await self.bench.lane(), await self._sender("a")
        feed, admin = await self.opened(lane), self.bench.admin()
        await log.append(records_of(lane, range(3)), timeout_s=PATIENCE_S)

        await feed.settle(await self.collect(feed, 3))
        until, waiting = self.clock.monotonic() + PATIENCE_S, -1
        while self.clock.monotonic() < until and (waiting or not feed.idle()):
            await feed.fetch(1, wait_s=0.1)
            [depth] = await admin.depths([lane])
            waiting = depth.waiting

        assert (feed.idle(), waiting) == (True, 0)
