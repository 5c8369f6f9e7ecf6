"""Runs over the memory log: each letter once, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest

from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryAtomicLog, MemoryLogAdmin
from shifter.adapters.memory.state import MemoryClaimStore, MemoryPresenceStore
from shifter.adapters.system import SystemClock
from shifter.deadletter import topic_lease as lease_module
from shifter.deadletter.dead_letters import EDITED_OF, DeadLetters
from shifter.deadletter.gate import StopPolicy
from shifter.deadletter.journal import Entry, Journal, RunEnded
from shifter.deadletter.pace import PacePolicy
from shifter.deadletter.plan import ReplayPolicy
from shifter.deadletter.reader import Selection
from shifter.deadletter.replay import ReplayParts
from shifter.deadletter.topic_lease import holding
from shifter.errors import (
    ConfigError,
    FilterError,
    HeldElsewhereError,
    StoreUnavailableError,
)
from shifter.model.claim import ClaimRequest, JobState, JobStatus
from shifter.model.reason import Reason
from shifter.ports import Record, Refused, WorkerReport
from shifter.wire.headers import read_headers
from tests.unit.deadletter.letters import SOURCE, headers, job_id

LANE = "shop.mail.low"
AT_ONCE = PacePolicy(slow_start_s=0)
BUSY = WorkerReport("w", "h", 1, 0, 0, 10, {LANE: 1}, {})
WHO = {"reason": "fixed", "by": "ann@host"}


class Log(MemoryAtomicLog):
    """A log of which a test decides what it answers."""

    appends = 0
    spoil = staticmethod(lambda number, records: None)

    async def append(self, records, *, timeout_s):
        self.appends += 1
        told = self.spoil(self.appends, records)
        if told is not None:
            return told
        return await super().append(records, timeout_s=timeout_s)


def lost(*args, **options):
    raise StoreUnavailableError("test", "append", "gone")


class Gate:
    why: str | None = None

    def __init__(self):
        self.asked = Counter()

    async def refusal(self, job_types):
        self.asked.update(job_types)
        return self.why


class World:
    def __init__(self) -> None:
        self.clock = SystemClock()
        self.memory = MemoryLog(self.clock)
        self.memory.create_lanes(LANE, SOURCE, partitions=3)
        self.log, self.gate = Log(self.memory, SOURCE), Gate()
        self.presence = MemoryPresenceStore(self.clock)
        self.admin = MemoryLogAdmin(self.memory)
        self.claims = MemoryClaimStore(self.clock)

    def dead_letters(self, log: MemoryAtomicLog | None = None) -> DeadLetters:
        parts = ReplayParts(
            log=self.log if log is None else log,
            admin=self.admin,
            claims=self.claims,
            presence=self.presence,
            clock=self.clock,
            journal=Journal(self.admin, "shop"),
            gate=self.gate,
        )
        return DeadLetters(parts, SOURCE)

    def fill(self, count: int, **changes) -> None:
        records = [
            Record(SOURCE, b'{"n": %d}' % n, headers(n, **changes), b"k%d" % (n % 7))
            for n in range(count)
        ]
        self.memory.append(records, 10**6)

    def replayed(self) -> Counter:
        """How often each job came back."""
        return Counter(
            read_headers(found.headers).envelope.replay_of
            for found in self.memory.entries(LANE)
        )

    async def open_ones(self) -> list[int]:
        return sorted([x.payload["n"] async for x in self.dead_letters().letters()])


@pytest.fixture
def world(monkeypatch) -> World:
    monkeypatch.setattr("shifter.deadletter.replay._BATCH", 200)
    monkeypatch.setattr(lease_module, "LEASE_MS", 3_000)
    return World()


def once(numbers) -> Counter:
    return Counter(job_id(n) for n in numbers)


async def test_a_run_replays_what_is_selected_once_and_nothing_else(world):
    world.fill(500)
    selection = Selection("payload.n >= 100")

    run = await world.dead_letters().replay(selection, **WHO, pace=AT_ONCE)
    again = await world.dead_letters().replay(selection, **WHO, pace=AT_ONCE)

    assert (run.state, run.counts) == ("done", {"sent": 400})
    assert (again.state, again.counts) == ("done", {})
    assert world.replayed() == once(range(100, 500))
    assert await world.open_ones() == list(range(100))
    assert set(world.gate.asked) == {"send"}


async def test_the_order_of_a_key_is_kept(world):
    world.fill(300)

    await world.dead_letters().replay(**WHO, pace=AT_ONCE)

    of_key = {}
    for found in world.memory.entries(LANE):
        of_key.setdefault(found.key, []).append(found.value)
    for values in of_key.values():
        numbers = [int(value[6:-1]) for value in values]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 9])
async def test_a_run_whose_answer_was_lost_anywhere_is_resumed_exactly(world, number):
    world.fill(700)

    def spoil(appended, records):
        # Written, and nobody hears of it: what a kill looks like to the next one.
        if appended == number:
            world.memory.append(records, 10**6)
            lost()

    world.log.spoil = spoil
    with pytest.raises(StoreUnavailableError):
        await world.dead_letters().replay(**WHO, name="r1", pace=AT_ONCE)
        raise StoreUnavailableError("test", "all", "was done before")
    del world.log.spoil
    run = await world.dead_letters().resume("r1", pace=AT_ONCE)

    assert (run.state, run.counts["sent"]) == ("done", 700)
    assert world.replayed() == once(range(700))


@pytest.mark.parametrize("number", [3, 5, 6])
async def test_a_run_that_was_cut_short_anywhere_is_resumed_exactly(world, number):
    world.fill(700)

    world.log.spoil = lambda appended, records: lost() if appended == number else None
    with pytest.raises(StoreUnavailableError):
        await world.dead_letters().replay(**WHO, name="r1", pace=AT_ONCE)
        raise StoreUnavailableError("test", "all", "was done before")
    del world.log.spoil
    run = await world.dead_letters().resume("r1", pace=AT_ONCE)

    assert (run.state, run.counts["sent"]) == ("done", 700)
    assert world.replayed() == once(range(700))


async def test_a_limit_holds_over_a_stop_and_a_resume(world):
    world.fill(500)
    world.log.spoil = lambda appended, records: lost() if appended == 4 else None
    with pytest.raises(StoreUnavailableError):
        await world.dead_letters().replay(**WHO, name="r1", limit=450, pace=AT_ONCE)

    run = await world.dead_letters().resume("r1", pace=AT_ONCE)

    assert run.counts["sent"] == 450 == world.replayed().total()
    assert len(await world.open_ones()) == 50


async def test_only_one_run_at_a_time_works_on_a_topic(world, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_MS", 1_500)
    world.fill(10)
    async with holding(world.claims, world.clock, SOURCE, owner="other"):
        with pytest.raises(HeldElsewhereError):
            await world.dead_letters().replay(**WHO, pace=AT_ONCE)

    assert (await world.dead_letters().replay(**WHO, pace=AT_ONCE)).counts == {
        "sent": 10
    }


async def test_a_run_waits_for_the_lease_of_a_killed_one(world, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_MS", 1_500)
    world.fill(10)
    name = lease_module.replay_id("hold", SOURCE)
    await world.claims.claim(
        [ClaimRequest(name, name, 1, 1)], owner="killed", lease_ms=1_000
    )

    run = await world.dead_letters().replay(**WHO, pace=AT_ONCE)

    assert run.counts == {"sent": 10}


async def test_a_run_that_lost_its_hold_sends_nothing_more(world, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_MS", 700)
    world.fill(4_000)

    async def held_by_nobody(held, *, lease_ms):
        raise StoreUnavailableError("test", "renew", "away")

    monkeypatch.setattr(world.claims, "renew", held_by_nobody)
    slow = PacePolicy(rate_per_s=200, slow_start_s=0)

    run = await world.dead_letters().replay(**WHO, pace=slow)

    assert (run.state, run.why) == ("stopped", "the lease on the topic was lost")
    assert 0 < world.replayed().total() == run.counts["sent"] < 2_000


async def test_a_run_stops_when_replays_fail_again_and_goes_on_when_asked(world):
    world.fill(3_000)

    async def status(job):
        return JobStatus(job, JobState.DEAD, 4, None, 0)

    world.claims.status = status
    pace = PacePolicy(rate_per_s=1_000, slow_start_s=0)

    stopped = await world.dead_letters().replay(**WHO, name="r1", pace=pace)
    never = StopPolicy(ratio=2)
    run = await world.dead_letters().resume("r1", pace=AT_ONCE, stop=never)

    assert stopped.begun.run == "r1"
    assert run.state == "done"
    assert world.replayed() == once(range(3_000))
    assert "failed again" in next(
        entry.why for entry in await _ends(world) if not entry.is_done
    )


async def _ends(world):
    found = world.memory.entries("shop.replays")
    entries = [msgspec.json.decode(each.value, type=Entry) for each in found]
    return [entry for entry in entries if isinstance(entry, RunEnded)]


async def test_a_closed_gate_stops_a_run_and_an_open_one_lets_it_go_on(world):
    world.fill(300)
    world.gate.why = "circuit 'mailer' is open"

    stopped = await world.dead_letters().replay(**WHO, name="r1", pace=AT_ONCE)
    why, sent = stopped.why, world.replayed().total()
    world.gate.why = None
    run = await world.dead_letters().resume("r1", pace=AT_ONCE)

    assert (why, sent) == ("circuit 'mailer' is open", 0)
    assert run.counts == {"sent": 300}


async def test_what_the_log_refuses_stays_open(world):
    world.fill(100)

    def spoil(appended, records):
        lane = [record for record in records if record.topic == LANE]
        return {0: Refused(Reason.TOO_LARGE, "9 bytes")} if len(lane) == 100 else None

    world.log.spoil = spoil
    run = await world.dead_letters().replay(**WHO, pace=AT_ONCE)

    assert {k: v for k, v in run.counts.items() if v} == {"sent": 99, "refused": 1}
    assert len(await world.open_ones()) == 1


async def test_a_full_log_stops_a_run_and_nothing_is_lost(world):
    world.fill(100)
    full = Refused(Reason.QUEUE_FULL, "no room")
    world.log.spoil = lambda appended, records: (
        dict.fromkeys(range(len(records)), full)
        if any(r.topic == LANE for r in records)
        else None
    )

    stopped = await world.dead_letters().replay(**WHO, name="r1", pace=AT_ONCE)
    state = stopped.state
    del world.log.spoil
    run = await world.dead_letters().resume("r1", pace=AT_ONCE)

    assert (state, run.counts) == ("stopped", {"sent": 100})
    assert world.replayed() == once(range(100))


async def test_letters_replayed_too_often_are_parked(world):
    world.fill(3, replays=3)

    run = await world.dead_letters().replay(**WHO, pace=AT_ONCE)

    assert run.counts == {"parked": 3}
    assert len(world.memory.entries(f"{SOURCE}.parking")) == 3
    assert world.replayed() == {}


async def test_discarded_letters_are_not_open_and_the_journal_has_the_reason(world):
    world.fill(10)

    run = await world.dead_letters().discard(Selection("payload.n < 4"), **WHO)

    assert (run.counts, run.begun.reason, run.begun.by) == (
        {"discarded": 4},
        *("fixed", "ann@host"),
    )
    assert await world.open_ones() == [4, 5, 6, 7, 8, 9]
    assert (
        len([x async for x in world.dead_letters().letters(Selection(again=True))])
        == 10
    )


async def test_an_edited_letter_stands_beside_the_original(world):
    world.fill(2)
    [first] = [
        x.delivery
        async for x in world.dead_letters().letters(Selection("payload.n == 0"))
    ]

    await world.dead_letters().edit(first, b'{"n": 100}', **WHO)

    assert await world.open_ones() == [1, 100]
    assert len(world.memory.entries(SOURCE)) == 3
    place = f"{SOURCE}/{first.partition}/{first.offset}"
    [edited] = [
        x async for x in world.dead_letters().letters(Selection("payload.n == 100"))
    ]
    assert (EDITED_OF, place.encode()) in edited.delivery.headers
    assert edited.story.job_id == job_id(0)


async def test_an_edit_that_was_cut_short_has_changed_nothing(world):
    world.fill(1)
    [first] = [x.delivery async for x in world.dead_letters().letters()]
    world.log.spoil = lost
    with pytest.raises(StoreUnavailableError):
        await world.dead_letters().edit(first, b'{"n": 100}', **WHO)

    assert await world.dead_letters().runs() == []
    assert await world.open_ones() == [0]


async def test_a_forecast_does_nothing_and_is_what_the_run_does(world):
    world.fill(50)
    world.memory.append([Record(SOURCE, b"?", [])], 10**6)

    told, kinds = await world.dead_letters().forecast(limit=40)
    before = world.replayed().total()
    run = await world.dead_letters().replay(**WHO, limit=40, pace=AT_ONCE)

    assert (told.selected, told.sent, before) == (51, {LANE: 40}, 0)
    assert told.skipped.get("over_the_limit") == 10
    assert run.counts["sent"] == 40
    assert kinds.groups()[0].count == 40


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"selection": Selection("eror == 1")}, FilterError),
        ({"policy": ReplayPolicy(targets={"*": "shop.mail.lo"})}, ConfigError),
        ({"policy": ReplayPolicy(targets={"*": SOURCE})}, ConfigError),
        ({"name": "Not A Name"}, ConfigError),
    ],
)
async def test_a_run_that_cannot_be_meant_does_not_begin(world, wanted, error):
    world.fill(3)

    with pytest.raises(error):
        await world.dead_letters().replay(**WHO, **wanted)

    assert await world.dead_letters().runs() == []
    assert world.replayed() == {}


async def test_a_run_is_found_by_its_name_only(world):
    world.fill(3)
    await world.dead_letters().replay(**WHO, name="mend-mail", pace=AT_ONCE)

    with pytest.raises(ConfigError, match="mend-mail"):
        await world.dead_letters().resume("mend-mial")
    with pytest.raises(ConfigError, match="a run has this name"):
        await world.dead_letters().replay(**WHO, name="mend-mail")
    assert (await world.dead_letters().resume("mend-mail")).counts == {"sent": 3}


async def test_a_rate_is_kept(world):
    world.fill(600)
    pace = PacePolicy(rate_per_s=500, slow_start_s=0)
    began = world.clock.monotonic()

    await world.dead_letters().replay(**WHO, pace=pace)

    took_s = world.clock.monotonic() - began
    assert 1.14 <= took_s < 30


async def test_cancelled_runs_can_be_resumed(world):
    world.fill(2_000)
    pace = PacePolicy(rate_per_s=1_000, slow_start_s=0)
    task = asyncio.ensure_future(
        world.dead_letters().replay(**WHO, name="r1", pace=pace)
    )
    while world.replayed().total() < 300:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [stopped] = await world.dead_letters().runs()
    why = (stopped.state, stopped.why)

    run = await world.dead_letters().resume("r1", pace=AT_ONCE)

    assert why == ("stopped", "interrupted")
    assert run.counts == {"sent": 2_000}
    assert world.replayed() == once(range(2_000))


async def test_a_sender_that_was_taken_for_dead_can_write_nothing_more(
    world, monkeypatch
):
    world.fill(400)
    frozen = MemoryAtomicLog(world.memory, SOURCE)
    thaw = asyncio.Event()

    async def append(records, *, timeout_s, write=frozen.append):
        if any(record.topic == LANE for record in records):
            await thaw.wait()
        return await write(records, timeout_s=timeout_s)

    frozen.append = append
    monkeypatch.setattr(world.claims, "renew", lost)
    slow = asyncio.ensure_future(
        world.dead_letters(frozen).replay(**WHO, name="r1", pace=AT_ONCE)
    )
    while not await world.dead_letters().runs():
        await asyncio.sleep(0.01)
    run = await world.dead_letters().resume("r1", pace=AT_ONCE)
    thaw.set()

    with pytest.raises(StoreUnavailableError, match="another process"):
        await slow
    assert run.counts == {"sent": 400}
    assert world.replayed() == once(range(400))


async def test_a_short_run_stops_too_when_replays_fail_again(world, monkeypatch):
    """The first replays are looked at before many others are sent."""
    world.fill(400)
    await world.presence.report(BUSY, keep_ms=60_000)

    async def status(job):
        return JobStatus(job, JobState.DEAD, 4, None, 0)

    monkeypatch.setattr(world.claims, "status", status)
    run = await world.dead_letters().replay(**WHO)

    assert (run.state, run.counts["sent"] < 200) == ("stopped", True)


async def test_a_run_waits_for_a_busy_lane_and_at_full_speed_it_does_not(world):
    world.fill(400)
    await world.presence.report(BUSY, keep_ms=60_000)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await world.dead_letters().replay(**WHO, name="r1", pace=AT_ONCE)
    sent = world.replayed().total()
    full_speed = PacePolicy(slow_start_s=0, yields=False)
    async with asyncio.timeout(40):
        run = await world.dead_letters().resume("r1", pace=full_speed)

    assert 0 < sent <= 100
    assert run.counts == {"sent": 400}
