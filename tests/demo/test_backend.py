"""The demo's backend: its slots, its switch and its record of executions."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import msgspec
import pytest

from shifter.demo.backend import (
    Answer,
    Backend,
    BackendState,
    Command,
    Request,
    ask,
    listening,
)
from shifter.model.lane import Priority
from shifter.testing.clock import FakeClock


class World:
    """A backend with two slots, on a clock that moves by hand."""

    def __init__(self, socket):
        self.socket, self.clock = str(socket), FakeClock()
        self.backend = Backend(slots=2, speed=1.0, clock=self.clock)

    async def serve(self, job_id=None, tokens=950, **changes):
        request = Request(job_id or str(uuid.uuid4()), Priority.HIGH, 0.0, tokens, 0)
        request = msgspec.structs.replace(request, **changes)
        answer = await ask(self.socket, Command("serve", request=request), Answer)
        return None if answer is None else answer.status

    async def look(self, since=0):
        return await ask(self.socket, Command("look", since=since), BackendState)

    async def until_running(self, count):
        while sum((await self.look()).running.values()) != count:
            await asyncio.sleep(0.001)

    async def until_hanging(self):
        while not self.clock.sleepers:
            await asyncio.sleep(0.001)


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path / "s")
    async with listening(world.backend, world.socket):
        yield world


async def test_a_request_keeps_a_slot_for_its_service_time(world):
    async with asyncio.TaskGroup() as group:
        call = group.create_task(world.serve("a"))
        await world.until_running(1)
        world.clock.advance(0.99)
        assert (await world.look()).running == {"HIGH": 1}
        world.clock.advance(0.01)

    assert call.result() == "ok"
    look = await world.look()
    assert [(one.job_id, one.wait_s, one.ended_at) for one in look.executions] == [
        ("a", 0.0, 1.0)
    ]
    assert look.running == {}


async def test_the_wait_counts_from_the_arrival_to_the_start_of_the_work(world):
    world.clock.advance(5.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.serve(arrived_at=2.0))
        await world.until_running(1)
        world.clock.advance(1.0)

    assert [one.wait_s for one in (await world.look()).executions] == [3.0]


async def test_no_more_requests_run_than_there_are_slots(world):
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(world.serve()) for _ in range(2)]
        await world.until_running(2)

        third = await world.serve()

        world.clock.advance(1.0)
    assert third == "busy"
    assert [call.result() for call in calls] == ["ok", "ok"]
    assert (await world.look()).refused == 1


async def test_breaking_cuts_off_what_runs_and_answers_nothing_until_healed(world):
    async with asyncio.TaskGroup() as group:
        running = group.create_task(world.serve("a"))
        await world.until_running(1)
        await ask(world.socket, Command("break"), Answer)
        assert await running is None

        hanging = group.create_task(world.serve("b"))
        await world.until_hanging()
        world.clock.advance(1.0)
        assert await hanging is None
        assert (await world.look()).is_down

        await ask(world.socket, Command("heal"), Answer)
        again = group.create_task(world.serve("a"))
        await world.until_running(1)
        world.clock.advance(1.0)

    assert again.result() == "ok"
    look = await world.look()
    assert (look.is_down, look.cut) == (False, 2)
    assert [one.job_id for one in look.executions] == ["a"]


async def test_a_repeat_is_answered_without_doing_the_work_again(world):
    async with asyncio.TaskGroup() as group:
        group.create_task(world.serve("a"))
        await world.until_running(1)
        world.clock.advance(1.0)

    assert await world.serve("a") == "ok"
    look = await world.look()
    assert (len(look.executions), look.repeats, look.doubled) == (1, 1, 0)


async def test_work_that_was_carried_out_twice_at_once_is_seen(world):
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(world.serve("a"))
        await world.until_running(2)
        world.clock.advance(1.0)

    look = await world.look()
    assert (len(look.executions), look.doubled) == (1, 1)


async def test_a_caller_that_is_gone_frees_its_slot_and_has_done_nothing(world):
    command = Command("serve", request=Request("a", Priority.LOW, 0.0, 950, 0))
    _, writer = await asyncio.open_unix_connection(world.socket)
    writer.write(msgspec.json.encode(command) + b"\n")
    await world.until_running(1)

    writer.close()
    await world.until_running(0)

    assert (await world.look()).executions == []


async def test_a_request_that_makes_no_sense_is_refused_each_time(world):
    assert await world.serve("a", tokens=-1) == "bad"
    assert await world.serve("a", tokens=-1) == "bad"
    assert (await world.look()).executions == []


async def test_executions_are_read_from_where_a_caller_left_off(world):
    for job_id in "abc":
        async with asyncio.TaskGroup() as group:
            group.create_task(world.serve(job_id))
            await world.until_running(1)
            world.clock.advance(1.0)

    assert [one.job_id for one in (await world.look(since=2)).executions] == ["c"]


@pytest.mark.parametrize(
    "line", [b"\n", b"no JSON\n", b'{"do": "dance"}\n', b'{"do": "serve"}\n', b"[" * 99]
)
async def test_nonsense_ends_only_its_own_connection(world, line):
    _, writer = await asyncio.open_unix_connection(world.socket)
    with contextlib.suppress(ConnectionError):
        writer.write(line)
        writer.write_eof()
    writer.close()

    assert (await world.look()).executions == []


async def test_asking_where_no_process_listens_is_no_answer(tmp_path):
    assert await ask(str(tmp_path / "nobody"), Command("look"), BackendState) is None
