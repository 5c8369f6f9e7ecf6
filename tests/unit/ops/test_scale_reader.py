"""The age of a number, and what is given when it could not be renewed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace

import pytest

from shifter import Shifter, wiring
from shifter.adapters.memory.state import MemoryFleetStore
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.errors import StoreUnavailableError
from shifter.fleet.scale_history import HISTORY_CELLS, hours_text, read_hours
from shifter.ops import scale_reader
from shifter.ops.scale_reader import EVERY_S, ScaleReader, scale_page
from shifter.ops.status import Overview
from shifter.testing.clock import FakeClock

PATIENCE_S = 30


class Fleet:
    """What readings find: an overview, or an error."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.readings = 0

    async def read(self, _sources):
        self.readings += 1
        if self.error is not None:
            raise self.error
        return Overview(self.readings, [], [], [], [], [])

    @contextlib.asynccontextmanager
    async def opened(self, *_):
        yield SimpleNamespace(fleet=None)


@pytest.fixture
def fleet(monkeypatch) -> Fleet:
    fleet = Fleet()
    monkeypatch.setattr(scale_reader, "read_for_scaling", fleet.read)
    monkeypatch.setattr(scale_reader, "open_sources", fleet.opened)
    return fleet


def app_of(**settings) -> Shifter:
    app = Shifter("shop", settings=Settings(namespace="shop", **settings))
    app.worker_group("mail", queues=["mail"], floor=2, ceiling=9)
    return app


@contextlib.asynccontextmanager
async def reading(clock, *, is_asked_only=False, **settings):
    reader = ScaleReader(app_of(**settings), clock, is_asked_only=is_asked_only)
    task = asyncio.get_running_loop().create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait([task])


AWAY = StoreUnavailableError("redis://h", "fleet.sync", "refused")


async def test_a_number_has_its_age(fleet):
    clock = FakeClock()
    async with reading(clock) as reader:
        answer = await reader.fresh(wait_s=PATIENCE_S)

    [group] = answer.groups
    assert (group.name, group.desired, group.reason) == ("mail", 2, "floor")
    assert (answer.as_of_ms, answer.age_s, answer.is_stale) == (1, 0, False)
    assert answer.error is None


async def test_before_the_first_reading_there_is_no_number(fleet):
    reader = ScaleReader(app_of(), FakeClock(), is_asked_only=False)
    answer = await reader.fresh(wait_s=0)

    assert (answer.groups, answer.is_stale, answer.is_given) == ([], True, False)
    assert answer.error == "the fleet was not read yet"


async def test_while_the_store_is_away_the_last_number_is_given_as_stale(fleet):
    clock = FakeClock()
    async with reading(clock) as reader:
        await reader.fresh(wait_s=PATIENCE_S)
        fleet.error = AWAY
        await clock.elapse(50)
        answer = reader.answer()

    assert [group.desired for group in answer.groups] == [2]
    assert (answer.age_s, answer.is_stale, answer.is_given) == (50, True, True)
    assert "redis://h" in answer.error


async def test_a_number_that_is_too_old_is_not_given(fleet):
    clock = FakeClock()
    async with reading(clock) as reader:
        await reader.fresh(wait_s=PATIENCE_S)
        fleet.error = AWAY
        await clock.elapse(61)
        answer = reader.answer()

    assert (answer.groups, answer.is_given) == ([], False)
    assert answer.age_s == 61


@pytest.mark.parametrize(("fallback", "desired"), [("floor", 2), ("ceiling", 9)])
async def test_then_the_fallback_is_given_with_the_error(fleet, fallback, desired):
    clock = FakeClock()
    async with reading(clock, scale_fallback=fallback) as reader:
        await reader.fresh(wait_s=PATIENCE_S)
        fleet.error = AWAY
        await clock.elapse(61)
        answer = reader.answer()

    [group] = answer.groups
    assert (group.desired, group.reason) == (desired, "held")
    assert (group.due_backlog_s, group.is_measured) == (desired * 30, False)
    assert (answer.is_stale, answer.is_given) == (True, True)
    assert "redis://h" in answer.error


async def test_a_store_that_never_answered_leads_to_the_fallback_too(fleet):
    clock, fleet.error = FakeClock(), AWAY
    async with reading(clock, scale_fallback="ceiling") as reader:
        await clock.elapse(10)
        early = reader.answer()
        await clock.elapse(60)
        late = reader.answer()

    assert early.groups == []
    assert [group.desired for group in late.groups] == [9]


async def test_a_reading_that_takes_too_long_makes_a_number_stale(fleet):
    clock = FakeClock()
    async with reading(clock) as reader:
        await reader.fresh(wait_s=PATIENCE_S)
        clock.advance(3 * EVERY_S)
        young = reader.answer().is_stale
        clock.advance(0.001)

        assert (young, reader.answer().is_stale) == (False, True)


async def test_a_store_that_comes_back_renews_the_number(fleet):
    clock = FakeClock()
    async with reading(clock) as reader:
        fleet.error = AWAY
        await clock.elapse(10)
        fleet.error = None
        await clock.elapse(10)
        answer = reader.answer()

    assert (answer.is_stale, answer.error) == (False, None)


async def test_readings_end_when_nobody_asks(fleet):
    clock = FakeClock()
    async with reading(clock, is_asked_only=True) as reader:
        await clock.elapse(60)
        assert fleet.readings == 0
        await reader.fresh(wait_s=PATIENCE_S)
        await clock.elapse(200)
        asleep = fleet.readings
        await clock.elapse(200)

        assert 0 < asleep == fleet.readings
        answer = await reader.fresh(wait_s=PATIENCE_S)

    assert (answer.is_stale, answer.as_of_ms) == (False, asleep + 1)


async def test_an_error_of_the_program_is_told_too(fleet):
    clock, fleet.error = FakeClock(), ZeroDivisionError("division by zero")
    async with reading(clock) as reader:
        await clock.elapse(1)
        answer = reader.answer()

    assert answer.error == "ZeroDivisionError: division by zero"


async def test_a_page_is_503_where_there_is_no_number(fleet):
    clock = FakeClock()
    async with reading(clock) as reader:
        given = scale_page(await reader.fresh(wait_s=PATIENCE_S))
        fleet.error = AWAY
        await clock.elapse(61)
        refused = scale_page(reader.answer())

    assert given[0] == 200
    assert list(json.loads(given[1])) == [
        *("as_of_ms", "groups", "age_s", "is_stale", "error"),
    ]
    assert refused[0] == 503
    assert json.loads(refused[1])["groups"] == []


async def test_a_reader_restores_and_saves_what_is_learnt(monkeypatch, fleet):
    clock = FakeClock()
    store = MemoryFleetStore(clock)

    @contextlib.asynccontextmanager
    async def opened(*_):
        yield SimpleNamespace(fleet=store)

    monkeypatch.setattr(scale_reader, "open_sources", opened)
    text = hours_text({3: 7.0}, clock.epoch_ms())
    store.table.cells[f"{HISTORY_CELLS}shop.mail.high"] = text
    async with reading(clock) as reader:
        await reader.fresh(wait_s=PATIENCE_S)

        assert reader._planner.learnt() == {"shop.mail.high": {3: 7.0}}
        reader._planner.recall({"shop.mail.low": {4: 8.0}})
        await clock.elapse(10)

    saved = store.table.cells[f"{HISTORY_CELLS}shop.mail.low"]
    assert read_hours(saved, clock.epoch_ms()) == {4: 8.0}


async def test_a_real_deployment_is_read(settings):
    app = Shifter("shop", settings=settings)
    app.worker_group("mail", queues=["mail"])
    async with wiring.opened_admin(settings) as admin:
        await admin.apply(wiring.topic_specs(settings, ["mail"]))
    reader = ScaleReader(app, SystemClock(), is_asked_only=False)
    task = asyncio.get_running_loop().create_task(reader.run())
    try:
        answer = await reader.fresh(wait_s=PATIENCE_S)
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert [group.reason for group in answer.groups] == ["idle"]


async def test_a_state_store_that_is_away_is_an_error_of_the_answer(tmp_path):
    settings = Settings(
        namespace="shop",
        log_url=Secret.of_url(f"sqlite://{tmp_path}/shop.db"),
        state_url=Secret.of_url("redis://127.0.0.1:1/0"),
    )
    app = Shifter("shop", settings=settings)
    app.worker_group("mail", queues=["mail"])
    reader = ScaleReader(app, SystemClock(), is_asked_only=False)
    task = asyncio.get_running_loop().create_task(reader.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            await reader.next_attempt().wait()
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert "redis 127.0.0.1:1" in reader.answer().error
