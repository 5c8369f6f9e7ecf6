"""What the accepting side of a log must do."""

from __future__ import annotations

import asyncio

from shifter.model.reason import Reason
from shifter.ports import AppendAnswer, Appended, Record, Refused
from shifter.testing.conformance.log_bench import (
    PATIENCE_S,
    LogBench,
    append_all,
    collect,
    numbers,
    records_of,
)


class LaneLogConformance:
    """Tests of `shifter.ports.LaneLog`; wants the fixture ``log_bench``."""

    async def test_appended_records_arrive_as_written(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        headers = [("a", b"1"), ("b", b"\x00\xff"), ("a", b""), ("none", None)]
        record = Record(lane, b'{"n": 1}', list(headers), b"key")
        before = log_bench.clock.epoch_ms()

        await append_all(log_bench, [record])
        feed = log_bench.feed(lane)
        await feed.open()
        [found] = await collect(feed, 1, clock=log_bench.clock)

        assert (found.topic, found.key, found.value) == (lane, b"key", record.value)
        assert found.headers == headers
        assert abs(found.appended_ms - before) < 1_000 * PATIENCE_S

    async def test_every_record_has_one_answer_in_order(
        self, log_bench: LogBench
    ) -> None:
        lane = await log_bench.lane()
        too_large = Record(lane, bytes(log_bench.max_record_bytes + 1), [])
        good = records_of(lane, range(3))

        answers = await log_bench.log().append(
            [good[0], too_large, good[1], too_large, good[2]], timeout_s=PATIENCE_S
        )

        assert [type(answer) for answer in answers] == [
            *(Appended, Refused, Appended, Refused, Appended)
        ]

    async def test_no_records_have_no_answers(self, log_bench: LogBench) -> None:
        assert await log_bench.log().append([], timeout_s=1) == []

    async def test_order_of_one_key_is_kept(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane(partitions=4)
        log, feed = log_bench.log(), log_bench.feed(lane)
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

        found = await collect(feed, 900, clock=log_bench.clock)

        for key in (b"a", b"b", b"c"):
            of_key = [delivery for delivery in found if delivery.key == key]
            assert numbers(of_key) == list(range(300))

    async def test_concurrent_appends_are_all_answered(
        self, log_bench: LogBench
    ) -> None:
        lane, log = await log_bench.lane(), log_bench.log()

        async def one(number: int) -> list[AppendAnswer]:
            return await log.append(records_of(lane, [number]), timeout_s=PATIENCE_S)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(200)]

        assert all(task.result() == [Appended()] for task in tasks)
        feed = log_bench.feed(lane)
        await feed.open()
        found = await collect(feed, 200, clock=log_bench.clock)
        assert sorted(numbers(found)) == list(range(200))

    async def test_the_largest_record_is_taken_and_one_byte_more_refused(
        self, log_bench: LogBench
    ) -> None:
        lane, log = await log_bench.lane(), log_bench.log()
        headers: list[tuple[str, bytes | None]] = [("name", b"1234")]
        room = log_bench.max_record_bytes - len("key") - len("name") - 4

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

    async def test_an_unknown_topic_is_refused(self, log_bench: LogBench) -> None:
        lane = await log_bench.lane()

        [answer] = await log_bench.log().append(
            records_of(f"{lane}-not-there", [1]), timeout_s=PATIENCE_S
        )

        assert isinstance(answer, Refused)
        assert answer.reason == Reason.REFUSED_BY_LOG

    async def test_append_sync_writes_like_append(self, log_bench: LogBench) -> None:
        lane, log = await log_bench.lane(), log_bench.log()
        too_large = Record(lane, bytes(log_bench.max_record_bytes + 1), [])

        answers = await asyncio.to_thread(
            log.append_sync, [*records_of(lane, [7]), too_large], timeout_s=PATIENCE_S
        )

        assert [type(answer) for answer in answers] == [Appended, Refused]
        feed = log_bench.feed(lane)
        await feed.open()
        assert numbers(await collect(feed, 1, clock=log_bench.clock)) == [7]

    async def test_a_closed_log_refuses(self, log_bench: LogBench) -> None:
        lane, log = await log_bench.lane(), log_bench.log(fresh=True)
        await log.append(records_of(lane, [1]), timeout_s=PATIENCE_S)

        assert log.close(timeout_s=PATIENCE_S) == 0
        [answer] = await log.append(records_of(lane, [2]), timeout_s=1)

        assert isinstance(answer, Refused)
        assert answer.reason == Reason.CLOSED
        assert log.close(timeout_s=1) == 0
