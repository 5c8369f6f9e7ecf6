"""150 msgpack records of nested emptiness made a CRITICAL job wait for 58 s.

Each took 340 ms of pure Python on the event loop to measure its depth, `/livez` went red
and the watchdog ended the worker. Right: msgpack is read only where the job's declaration
allows it; a document has a bounded number of arrays and objects; what goes beyond the
budget of a turn of the event loop is decoded in a thread.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import msgspec
import pytest

from shifter import Priority
from shifter.errors import ConfigError, DecodeError
from shifter.model.claim import JobState
from shifter.ports import Record
from shifter.wire.untrusted import MAX_CONTAINERS, check_depth, check_msgpack_depth
from shifter.work.executor import TURN_BYTES, Decoding
from tests.integration.drain_world import World, submit

SIZE = 890_000
MSGPACK = ("content-type", b"application/msgpack")
HEAD = b"\x81\xa4data\xdd"
EVIL = {
    "empty arrays": HEAD + SIZE.to_bytes(4, "big") + b"\x90" * SIZE,
    "empty maps": HEAD + SIZE.to_bytes(4, "big") + b"\x80" * SIZE,
    "arrays in arrays": HEAD
    + (SIZE // 2).to_bytes(4, "big")
    + b"\x91\x90" * (SIZE // 2),
    "arrays and numbers": HEAD
    + (SIZE // 3).to_bytes(4, "big")
    + b"\x91\xcc\x01" * (SIZE // 3),
}


def record(lane: str, value: bytes, *headers: tuple[str, bytes]) -> Record:
    envelope = json.dumps({"v": 1, "id": str(uuid.uuid4()), "type": "take"}).encode()
    return Record(lane, value, [("shifter", envelope), *headers])


@pytest.mark.parametrize("evil", EVIL.values(), ids=list(EVIL))
def test_nested_emptiness_is_refused(evil):
    with pytest.raises(DecodeError, match="more than 100000 arrays and objects"):
        check_msgpack_depth(evil)


def test_as_many_arrays_as_allowed_and_not_one_more():
    for count, is_ok in ((MAX_CONTAINERS - 1, True), (MAX_CONTAINERS, False)):
        flat: Any = [[]] * count
        for check, raw in (
            (check_depth, msgspec.json.encode(flat)),
            (check_msgpack_depth, msgspec.msgpack.encode(flat)),
            (check_msgpack_depth, msgspec.msgpack.encode([[1]] * count)),
        ):
            if is_ok:
                check(raw)
            else:
                with pytest.raises(DecodeError, match="arrays and objects"):
                    check(raw)


def test_an_empty_array_among_small_values_has_its_depth():
    check_msgpack_depth(b"\x91" * 63 + b"\x90")
    with pytest.raises(DecodeError, match="deeper"):
        check_msgpack_depth(b"\x91" * 63 + b"\x93\x01\x80\x01" + b"\x90" * 2)


def test_a_run_of_small_values_costs_no_more_than_its_bytes():
    # One container, whose million values were looked at one by one.
    raw = HEAD + (SIZE).to_bytes(4, "big") + b"\x01" * (SIZE - 100) + b"\x90" * 100

    begun = time.thread_time()
    check_msgpack_depth(raw)

    assert time.thread_time() - begun < 0.1  # 0.3 s before; 0.003 s now


@pytest.mark.alone
async def test_a_critical_job_does_not_wait_for_records_of_nested_emptiness():
    world, seen = World(), []

    @world.app.job(name="take", msgpack=True)
    async def take(data: Any) -> None: ...

    @world.app.job(priority=Priority.CRITICAL)
    async def urgent(number: int) -> None:
        seen.append(time.perf_counter())

    await world.open()
    evils = list(EVIL.values())
    lane = "shop.default.normal"
    records = [record(lane, evils[n % len(evils)], MSGPACK) for n in range(60)]
    await world.lane_log.append(records, timeout_s=5)
    waits: list[float] = []
    async with world.working(concurrency=20):
        for number in range(10):
            begun = time.perf_counter()
            job_id = await submit(urgent, number)
            await world.ended(job_id, JobState.DONE, timeout_s=30)
            waits.append(time.perf_counter() - begun)
        await world.until(
            lambda: (
                sum(world.metrics.snapshot()["shifter_dead_letters_total"].values())
                == 60
            ),
            timeout_s=50,
        )

    # All of them on the loop took seconds before the first could start.
    assert max(waits) < 2.0


async def test_msgpack_is_read_only_where_the_job_allows_it():
    world, seen = World(), []

    @world.app.job(name="take")
    async def plain(data: Any) -> None:
        seen.append(data)

    await world.open()
    raw = msgspec.msgpack.encode({"data": [1]})
    lane = "shop.default.normal"
    await world.lane_log.append([record(lane, raw, MSGPACK)], timeout_s=5)
    async with world.working():
        await world.until(lambda: bool(world.log.entries("shop.default.dlt")))

    [letter] = await world.dead_letters()
    told = dict(letter.headers)
    assert told["shifter-reason"] == b"undecodable_payload"
    assert b"msgpack=True" in told["shifter-error-message"]
    assert seen == []


async def test_a_job_that_allows_msgpack_reads_both():
    world, seen = World(), []

    @world.app.job(name="take", msgpack=True)
    async def both(data: Any) -> None:
        seen.append(data)

    await world.open()
    lane = "shop.default.normal"
    raw = msgspec.msgpack.encode({"data": [1]})
    await world.lane_log.append(
        [record(lane, raw, MSGPACK), record(lane, b'{"data": [1]}')], timeout_s=5
    )
    async with world.working():
        await world.until(lambda: len(seen) == 2)

    assert seen == [[1], [1]]


def test_the_option_is_a_flag():
    with pytest.raises(ConfigError, match="msgpack"):
        World().app.job(msgpack="yes")(lambda: None)


async def test_a_turn_decodes_as_much_as_its_budget_and_the_next_one_again():
    decoding, half = Decoding(), bytes(TURN_BYTES // 2)
    try:
        first = [decoding.fits(half, "application/json") for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        again = decoding.fits(half, "application/json")
        large = decoding.fits(bytes(TURN_BYTES // 16 + 1), "application/msgpack")
    finally:
        decoding.close()

    assert (first, again, large) == ([True, True, False], True, False)


async def test_what_is_decoded_in_a_thread_runs_like_any_other():
    world, seen = World(), []

    @world.app.job
    async def large(text: str) -> None:
        seen.append(len(text))

    await world.open()
    for _ in range(5):
        await submit(large, "x" * 800_000)
    async with world.working(concurrency=5):
        await world.until(lambda: len(seen) == 5)

    assert seen == [800_000] * 5
