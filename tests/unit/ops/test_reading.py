"""An overview is read again and again, also while a store is away."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shifter.errors import StoreUnavailableError
from shifter.ops import reading
from shifter.ops.reading import Reader
from shifter.ops.status import Overview
from shifter.testing import FakeClock

AWAY = StoreUnavailableError(store="kafka", op="topics", detail="no broker")


class Source:
    """Answers with what is planned: an overview, an error, or an overview in parts."""

    def __init__(self, *answers: object) -> None:
        self.answers, self.opened, self.warn = list(answers), 0, None

    @contextlib.asynccontextmanager
    async def open(self, settings, clock, warn):
        self.opened += 1
        self.warn = warn
        yield self

    async def read(self, sources):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for note in answer:
            self.warn(note)
        return Overview(0, [], [], [], [], [])


@pytest.fixture
async def reads(monkeypatch):
    """Runs a reader over planned answers; each call goes on until the next attempt."""
    clock = FakeClock()
    async with contextlib.AsyncExitStack() as stack:

        async def start(*answers):
            source = Source(*answers)
            monkeypatch.setattr(reading, "open_sources", source.open)
            monkeypatch.setattr(reading, "read_overview", source.read)
            attempts = []
            reader = Reader(None, clock, lambda: attempts.append(reader.reading))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            task = group.create_task(reader.run())
            stack.callback(task.cancel)

            async def attempt():
                count = len(attempts)
                while len(attempts) == count:
                    clock.advance(0.5)
                    await asyncio.sleep(0)
                return attempts[-1]

            return reader, source, attempt

        yield start


async def test_a_failure_keeps_the_last_overview_and_connects_anew(reads):
    _, source, attempt = await reads([], AWAY, [])

    first, second, third = await attempt(), await attempt(), await attempt()

    assert first.failure is None
    assert second.overview is first.overview
    assert "no broker" in second.failure
    assert third.failure is None
    assert source.opened == 2


async def test_parts_that_are_missing_are_noted_once_and_bounded(reads):
    notes = ["workers are not shown", "workers are not shown", *map(str, range(20))]
    _, _, attempt = await reads(notes, [])

    first, second = await attempt(), await attempt()

    assert first.notes[0] == "workers are not shown"
    assert len(first.notes) <= 8
    assert second.notes == ()


async def test_nothing_is_read_while_no_reading_is_wanted(reads):
    reader, source, attempt = await reads([], [])
    await attempt()
    reader.is_on.clear()

    for _ in range(50):
        reader._clock.advance(1.0)
        await asyncio.sleep(0)
    assert len(source.answers) == 1
    reader.is_on.set()
    await attempt()

    assert not source.answers
