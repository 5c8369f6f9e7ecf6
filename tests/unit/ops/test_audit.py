"""What operators do is an event, and an action never waits for its record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shifter import wiring
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLaneLog, MemoryLogAdmin
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.errors import StoreUnavailableError
from shifter.ops.audit import Action, append_action
from shifter.wire.job_event import decode_events

SETTINGS = Settings(namespace="shop", log_url=Secret.of_url("kafka://nowhere:9092"))
ACTION = Action("circuit open mailer", "ann@host", "maintenance \x1b[2J until noon")


@pytest.fixture
def log(monkeypatch):
    log = MemoryLog(SystemClock())
    log.create(wiring.events_spec(SETTINGS))
    monkeypatch.setattr(wiring, "open_log", lambda _: MemoryLaneLog(log))
    return log


async def recorded(log):
    scan = MemoryLogAdmin(log).scan("shop.events")
    return [
        event
        async for batch in scan
        for delivery in batch
        for event in decode_events(delivery.value).events
    ]


async def test_an_action_is_an_event_with_who_what_and_why(log):
    assert await append_action(SETTINGS, ACTION)

    [event] = await recorded(log)
    assert (event.event, event.id) == ("action", "")
    assert (event.action, event.by) == ("circuit open mailer", "ann@host")
    assert event.reason == r"maintenance \x1b[2J until noon"


async def test_with_events_none_an_action_is_not_recorded(log):
    assert not await append_action(replace(SETTINGS, events="none"), ACTION)
    assert await recorded(log) == []


async def test_a_log_that_is_away_raises_nothing(monkeypatch):
    def away(_):
        raise StoreUnavailableError("kafka", "open", "nobody answers")

    monkeypatch.setattr(wiring, "open_log", away)

    assert not await append_action(SETTINGS, ACTION)
