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
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for note in answer:
            self.warn(note)
        return Overview(0, [], [], [], [], [])


class Watched:
    """A reader whose clock is moved, and the source that it reads."""

    def __init__(self, source: Source, **options) -> None:
        self.source, self.clock = source, FakeClock()
        self.reader = Reader(None, self.clock, **options)

    async def pass_time(self, turns: int = 40) -> None:
        for _ in range(turns):
            self.clock.advance(0.5)
            for _ in range(5):
                await asyncio.sleep(0)

    async def next(self, readings):
        """The next reading of those that somebody watches."""
        found = asyncio.ensure_future(anext(readings))
        while not found.done():
            await self.pass_time(1)
        return found.result()


@pytest.fixture
async def reads(monkeypatch):
    """Makes a reader over planned answers; stops it at the end."""
    monkeypatch.setattr(reading.time, "process_time", lambda: 0.0)
    async with contextlib.AsyncExitStack() as stack:

        def start(*answers, **options):
            source = Source(*answers)
            monkeypatch.setattr(reading, "open_sources", source.open)
            monkeypatch.setattr(reading, "read_overview", source.read)
            watched = Watched(source, **options)
            stack.push_async_callback(watched.reader.close)
            return watched

        yield start


async def test_a_failure_keeps_the_last_overview_and_connects_anew(reads):
    watched = reads([], AWAY, [])
    readings = watched.reader.readings()

    first, second, third = [await watched.next(readings) for _ in range(3)]

    assert (first.number, second.number, third.number) == (1, 2, 3)
    assert first.failure is None
    assert second.overview is first.overview
    assert second.error is AWAY
    assert "no broker" in second.failure
    assert third.failure is None
    assert watched.source.opened == 2


async def test_an_error_of_another_kind_is_shown_with_its_name(reads):
    watched = reads(ZeroDivisionError("of a store"), [])
    readings = watched.reader.readings()

    assert (await watched.next(readings)).failure == "ZeroDivisionError: of a store"
    assert (await watched.next(readings)).failure is None


async def test_parts_that_are_missing_are_noted_once_and_bounded(reads):
    notes = ["workers are not shown", "workers are not shown", *map(str, range(20))]
    watched = reads(notes, [])
    readings = watched.reader.readings()

    first, second = await watched.next(readings), await watched.next(readings)

    assert first.notes[0] == "workers are not shown"
    assert len(first.notes) <= 8
    assert second.notes == ()


async def test_nothing_is_read_while_nobody_watches(reads):
    watched = reads([], [])
    async with contextlib.aclosing(watched.reader.readings()) as readings:
        await watched.next(readings)

    await watched.pass_time()
    assert len(watched.source.answers) == 1

    assert (await watched.next(watched.reader.readings())).number == 1
    await watched.pass_time()
    assert not watched.source.answers


async def test_an_idle_reader_reads_at_its_own_pace(reads):
    watched = reads([], [], [], idle_s=10.0)
    await watched.reader.fresh(within_s=0.0, wait_s=20.0)

    await watched.pass_time(turns=16)
    assert len(watched.source.answers) == 2
    await watched.pass_time(turns=8)
    assert len(watched.source.answers) == 1


async def test_a_change_is_read_at_once(reads):
    watched = reads([], [])
    await watched.reader.fresh(within_s=0.0, wait_s=20.0)

    found = await watched.reader.at_once(wait_s=20.0)

    assert found.number == 2


async def test_each_state_is_noted_and_its_cost_spaces_the_readings(reads, monkeypatch):
    spent, noted = [0.0], []
    monkeypatch.setattr(reading.time, "process_time", lambda: spent[0])

    async def note(sources, overview):
        spent[0] += 0.25
        noted.append(overview)

    watched = reads([], [], note=note)
    readings = watched.reader.readings()

    first = await watched.next(readings)
    assert first.every_s == 20.0
    await watched.pass_time(turns=38)
    assert len(noted) == 1
    await watched.pass_time(turns=4)
    assert len(noted) == 2
    assert noted[0] is first.overview
