"""What changed lately, from a state, declared windows and the stream of events."""

from __future__ import annotations

import msgspec
import pytest

from shifter import Window
from shifter.adapters.memory.log import MemoryLog, MemoryLogAdmin
from shifter.deadletter.open_counts import OpenCounts
from shifter.errors import StoreUnavailableError
from shifter.fleet.service_reports import AdmissionRow, ServiceRow
from shifter.fleet.view import CircuitRow, QualityRow
from shifter.jobs.schedule import read_windows
from shifter.model.lane import events_topic
from shifter.ops.changes import RecentChanges
from shifter.ops.status import Overview, StatusSources
from shifter.ports import Record, TopicSpec, WorkerReport
from shifter.testing import FakeClock
from shifter.wire.job_event import JobEvent, encode_events

DAY_MS = 86_400_000


class Place:
    """A log with a stream of events, and what is read of it."""

    def __init__(self) -> None:
        self.clock, self.notes = FakeClock(), []
        self.log = MemoryLog(self.clock)
        self.log.create(TopicSpec(events_topic("shop"), 1, DAY_MS, 1_000_000))
        self.admin = MemoryLogAdmin(self.log)
        self.changes = RecentChanges({})

    def act(self, action: str, at_ms: int, **facts: str) -> None:
        event = JobEvent(at_ms=at_ms, event="action", action=action, **facts)
        for value, _ in encode_events("cli", [event]):
            self.log.append([Record(events_topic("shop"), value, [])], 10**6)

    async def note(self, **facts) -> list[tuple[str, str]]:
        state = Overview(self.clock.epoch_ms(), [], [], [], [], [])
        sources = StatusSources(
            *("shop", self.admin, None, None, self.clock, OpenCounts()),
            self.notes.append,
        )
        await self.changes.note(sources, msgspec.structs.replace(state, **facts))
        return [(change.kind, change.text) for change in self.changes.newest()]


@pytest.fixture
def place() -> Place:
    return Place()


def circuit(state: str, since_ms: int | None) -> CircuitRow:
    empty = (None, 0, None, 1, 0.1, 5, 0, 0, None, {}, {})
    return CircuitRow("mailer", state, *empty, since_ms=since_ms)


async def test_a_state_shows_changes_that_nobody_saw(place):
    now = place.clock.epoch_ms()
    workers = [
        WorkerReport(f"w{n}", "host", n, now - 120_000 + n, now, 8, {}, {})
        for n in range(3)
    ]
    state = {
        "circuits": [circuit("half_open", now - 50_000)],
        "quality": QualityRow("REDUCED", "REDUCED", None, 0.9, 1, now - 40_000),
        "admission": AdmissionRow({}, {}, [], now - 30_000),
        "services": [ServiceRow("s", now - 20_000, "7.1")],
        "workers": workers,
    }

    found = await place.note(**state)

    assert found[:4] == [
        ("service", "1 service of version 7.1 started"),
        ("shed", "services began to shed"),
        ("quality", "quality REDUCED"),
        ("circuit", "circuit of mailer opened"),
    ]
    assert {kind for kind, _ in found[4:]} == {"worker"}
    again = Place()
    again.clock = place.clock
    assert await again.note(**state) == found == await place.note(**state)


async def test_each_change_of_a_circuit_stands_once(place):
    now = place.clock.epoch_ms()
    await place.note(circuits=[circuit("closed", None)])
    await place.note(circuits=[circuit("open", now)])
    await place.note(circuits=[circuit("half_open", now)])
    place.clock.advance(9.0)
    found = await place.note(circuits=[circuit("closed", now + 8_000)])

    assert found == [
        ("circuit", "circuit of mailer closed"),
        ("circuit", "circuit of mailer opened"),
    ]


async def test_a_change_is_forgotten_after_an_hour_and_they_are_bounded(place):
    now = place.clock.epoch_ms()
    for second in range(300):
        await place.note(circuits=[circuit("open", now - 300_000 + 1_000 * second)])
    assert len(place.changes.newest()) == 200
    place.clock.advance(3_601.0)

    assert await place.note() == []


async def test_an_instant_that_has_not_come_is_no_change(place):
    now = place.clock.epoch_ms()

    assert await place.note(services=[ServiceRow("s", now + 3_600_000, "")]) == []


async def test_actions_of_operators_are_shown_and_date_an_override(place):
    now = place.clock.epoch_ms()
    place.act("circuit open mailer", now - 7_200_000, by="ann")
    place.act("circuit open mailer", now - 9_000, by="ann\x1b[2J", reason="<b>down")
    place.act("quality REDUCED", now - 5_000)
    place.act("job cancel", now - 4_000, id="018f0000-0000-7000-8000-000000000000")

    found = await place.note()

    assert found == [
        ("action", "quality REDUCED"),
        ("action", "circuit open mailer by ann\\x1b[2J: <b>down"),
    ]
    assert place.changes.opened_by_hand_ms("mailer") == now - 9_000
    assert place.changes.opened_by_hand_ms("bank") is None


async def test_the_stream_is_read_again_after_a_minute(place):
    await place.note()
    place.act("quality REDUCED", place.clock.epoch_ms())
    assert await place.note() == []

    place.clock.advance(61.0)
    assert await place.note() == [("action", "quality REDUCED")]
    place.clock.advance(61.0)
    assert await place.note() == [("action", "quality REDUCED")]


async def test_a_stream_that_cannot_be_read_is_a_note(place):
    async def refused(*_, **__):
        raise StoreUnavailableError(store="kafka", op="spans", detail="no rights")

    place.admin.spans = refused

    assert await place.note() == []
    assert "actions of operators are not shown" in place.notes[0]


async def test_a_declared_window_opens_and_closes_on_its_minute(place):
    windows = {"queue/mail": read_windows("window", Window("11:30-11:50"))}
    place.changes = RecentChanges(windows)
    now_ms = place.clock.epoch_ms()
    noon_ms = (now_ms // DAY_MS + 1) * DAY_MS + DAY_MS // 2
    place.clock.advance((noon_ms - now_ms) / 1_000)

    found = await place.note()

    assert found == [
        ("window", "window of queue/mail closed"),
        ("window", "window of queue/mail opened"),
    ]
    times = [change.at_ms for change in place.changes.newest()]
    assert times == [noon_ms - 600_000, noon_ms - 1_800_000]
    assert await place.note() == found
