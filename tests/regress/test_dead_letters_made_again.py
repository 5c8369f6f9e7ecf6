"""What runs handled counts for the topic that they worked on, not for its name.

The journal of replays named a dead-letter topic and offsets. After the topic was deleted
and made again, new letters at those offsets were taken for handled: `dlt list`, `status`,
replay and discard passed them over. A run names the topic's id now. An entry without an
id is believed unless the log contradicts it. A reader that keeps what it read of the
journal begins anew when the journal itself was made again.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from shifter.adapters.kafka.admin import KafkaLogAdmin
from shifter.adapters.kafka.atomic import KafkaAtomicLog
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryAtomicLog, MemoryLogAdmin
from shifter.adapters.memory.state import MemoryClaimStore, MemoryPresenceStore
from shifter.adapters.system import SystemClock
from shifter.deadletter.dead_letters import DeadLetters
from shifter.deadletter.gate import StopPolicy
from shifter.deadletter.journal import Journal, RunBegun, RunStep
from shifter.deadletter.open_counts import OpenCounts
from shifter.deadletter.pace import PacePolicy
from shifter.deadletter.replay import ReplayParts
from shifter.errors import ConfigError
from shifter.model.lane import dead_letter_topic
from shifter.ops.status import StatusSources, read_overview
from shifter.ports import Record
from shifter.wire.dead_letter import dead_letter_headers
from shifter.wire.headers import build_headers
from tests.integration.kafka.bench import Bench, Site
from tests.unit.deadletter.letters import SOURCE, envelope, headers, info

WHO = {"reason": "fixed", "by": "ann@host"}
AT_ONCE = PacePolicy(slow_start_s=0)
HOUR_MS = 3_600_000


def dead_letters_of(admin, log, namespace, source) -> DeadLetters:
    clock = SystemClock()
    parts = ReplayParts(
        log=log,
        admin=admin,
        claims=MemoryClaimStore(clock),
        presence=MemoryPresenceStore(clock),
        clock=clock,
        journal=Journal(admin, namespace),
    )
    return DeadLetters(parts, source)


async def open_ones(dead_letters) -> list[int]:
    return sorted([letter.payload["n"] async for letter in dead_letters.letters()])


# --- on a real broker --------------------------------------------------------------


@pytest.fixture(scope="module")
def site(kafka):
    made = Site(kafka.bootstrap)
    yield made
    made.close()


class World:
    """One queue on a real broker, its dead letters, and who looks after them."""

    def __init__(self, site, number: int) -> None:
        self.site, self.namespace = site, f"{site.namespace}-{number}"
        self.lane = f"{self.namespace}.mail.low"
        self.source = dead_letter_topic(self.namespace, "mail")
        self.bench = Bench(site)
        self.admin = KafkaLogAdmin(site.config, self.namespace)
        name = f"{self.namespace}.replays.{self.source}"
        self.log = KafkaAtomicLog(site.config, name, site.clock)
        self.dead_letters = dead_letters_of(
            self.admin, self.log, self.namespace, self.source
        )
        self.sources = StatusSources(
            self.namespace, self.admin, None, None, SystemClock(), OpenCounts(), print
        )

    async def fill(self, numbers) -> None:
        writer = self.site.writer(self.namespace)
        records = [self._letter(number) for number in numbers]
        answers = await writer.append(records, timeout_s=20)
        await asyncio.to_thread(writer.close, timeout_s=5)
        assert len(answers) == len(records)

    def _letter(self, number: int) -> Record:
        original = build_headers(
            envelope(number), content_type="application/json", extra=[]
        )
        told = info(number, origin_topic=self.lane)
        value = b'{"n": %d}' % number
        return Record(self.source, value, dead_letter_headers(told, original))

    async def make_again(self, topic: str) -> None:
        await asyncio.to_thread(self.site.delete, topic)
        topics = self.site.admin.list_topics
        await self.bench.until(lambda: topic not in topics(timeout=30).topics)
        await asyncio.to_thread(self.site.make, topic)

    async def status(self) -> int:
        """What `shifter status` counts, of one process that goes on looking."""
        [row] = (await read_overview(self.sources)).dead_letters
        return row.count

    async def close(self) -> None:
        await self.log.close()
        await self.admin.close()


@pytest.fixture
async def world(site, request):
    made = World(site, abs(hash(request.node.name)) % 10_000)
    await asyncio.to_thread(site.make, made.lane, made.source)
    yield made
    await made.close()


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.parametrize("action", ["discard", "replay"])
async def test_new_letters_are_open_after_the_topic_was_made_again(world, action):
    await world.fill(range(5))
    if action == "discard":
        await world.dead_letters.discard(**WHO)
    else:
        await world.dead_letters.replay(**WHO, pace=AT_ONCE, stop=StopPolicy(ratio=2))
    handled = await world.status()

    await world.make_again(world.source)
    await world.fill(range(10, 17))
    listed, counted = await open_ones(world.dead_letters), await world.status()
    run = await world.dead_letters.replay(**WHO, pace=AT_ONCE, stop=StopPolicy(ratio=2))

    assert handled == 0
    assert listed == list(range(10, 17))
    assert counted == 7
    assert run.counts == {"sent": 7}
    assert await open_ones(world.dead_letters) == []
    assert await world.status() == 0


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_a_run_on_the_old_topic_is_not_resumed_on_the_new_one(world):
    await world.fill(range(5))
    run = await world.dead_letters.discard(**WHO, limit=2)
    parts, journal = world.dead_letters._parts, world.dead_letters._parts.journal
    begun = msgspec.structs.replace(run.begun, run="cut-short", limit=None)
    await parts.log.append([journal.record(begun)], timeout_s=20)

    await world.make_again(world.source)
    await world.fill(range(10, 17))

    with pytest.raises(ConfigError, match="was created again since"):
        await world.dead_letters.resume("cut-short")
    assert await open_ones(world.dead_letters) == list(range(10, 17))


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_status_that_goes_on_looking_reads_a_new_journal_from_its_start(world):
    await world.fill(range(6))
    for _ in range(3):
        await world.dead_letters.discard(**WHO, limit=1)
        await asyncio.sleep(0.01)
    before = await world.status()

    await world.make_again(world.dead_letters._parts.journal.topic)
    # What the old journal said is gone with it, for each process alike.
    without, listed = await world.status(), await open_ones(world.dead_letters)
    await world.dead_letters.discard(**WHO, limit=4)
    counted = await world.status()

    assert before == 3
    assert (without, listed) == (6, list(range(6)))
    assert counted == 2


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_entries_without_an_id_do_not_count_for_fewer_letters(world):
    """They are of an earlier version, and the topic was made again since."""
    await world.fill(range(5))
    run = await world.dead_letters.discard(**WHO)
    await world.make_again(world.dead_letters._parts.journal.topic)
    journal, log = world.dead_letters._parts.journal, world.log
    told, at_ms = msgspec.to_builtins(run.begun), run.begun.at_ms
    told.pop("topic_id", None)
    begun = Record(journal.topic, msgspec.json.encode(told), [])
    step = RunStep(run=run.begun.run, at_ms=at_ms, upto={0: 5}, handled={0: [(0, 5)]})
    await log.append([begun, journal.record(step)], timeout_s=20)
    same = await open_ones(world.dead_letters)

    await world.make_again(world.source)
    await world.fill(range(10, 13))

    assert same == []
    assert await open_ones(world.dead_letters) == [10, 11, 12]


# --- entries of earlier versions -----------------------------------------------------


class Clock(SystemClock):
    ahead_ms = 0

    def epoch_ms(self):
        return super().epoch_ms() + self.ahead_ms


class Earlier:
    """A log whose journal was begun by a version that named no ids."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.memory = MemoryLog(self.clock)
        self.memory.create_lanes("shop.mail.low", SOURCE, "shop.replays")
        self.admin = MemoryLogAdmin(self.memory)
        self.journal = Journal(self.admin, "shop")
        self.dead_letters = dead_letters_of(
            self.admin, MemoryAtomicLog(self.memory, SOURCE), "shop", SOURCE
        )

    def fill(self, numbers) -> None:
        records = [Record(SOURCE, b'{"n": %d}' % n, headers(n)) for n in numbers]
        self.memory.append(records, 10**6)

    def note(self, run: str, end: int, *, topic_id: str | None = None) -> None:
        """Letters below an offset are handled; as this version writes, with an id."""
        at_ms = self.clock.epoch_ms()
        facts = {"run": run, "at_ms": at_ms, "action": "discard", "source": SOURCE}
        begun = RunBegun(**facts, **WHO, spans={0: (0, end)})
        step = RunStep(run=run, at_ms=at_ms, upto={0: end}, handled={0: [(0, end)]})
        told = msgspec.to_builtins(begun)
        told.pop("topic_id", None)
        if topic_id is not None:
            told["topic_id"] = topic_id
        records = [
            Record("shop.replays", msgspec.json.encode(told), []),
            self.journal.record(step),
        ]
        self.memory.append(records, 10**6)

    async def found(self) -> tuple[list[int], int]:
        """What is open, and how many are counted."""
        book = await self.journal.load()
        counts = await OpenCounts(book).count(self.admin, [SOURCE])
        return await open_ones(self.dead_letters), counts[SOURCE]


@pytest.fixture
def earlier() -> Earlier:
    return Earlier()


async def test_entries_without_an_id_count(earlier):
    earlier.fill(range(6))
    earlier.note("old", 4)

    assert await earlier.found() == ([4, 5], 2)


async def test_they_count_together_with_those_that_name_the_topic(earlier):
    earlier.fill(range(6))
    earlier.note("old", 3)
    await earlier.dead_letters.discard(**WHO, limit=2)

    assert await earlier.found() == ([5], 1)


async def test_they_do_not_count_for_letters_that_came_long_after_the_run(earlier):
    earlier.note("old", 4)
    earlier.clock.ahead_ms = 2 * HOUR_MS
    earlier.fill(range(6))

    assert await earlier.found() == ([0, 1, 2, 3, 4, 5], 6)


async def test_they_do_not_count_once_a_later_run_names_another_id(earlier):
    earlier.fill(range(6))
    earlier.note("old", 4)
    earlier.note("newer", 5, topic_id="another")
    before = await earlier.found()
    earlier.note("newest", 2)

    assert before == ([0, 1, 2, 3, 4, 5], 6)
    # Of an earlier version too, but nothing contradicts it.
    assert await earlier.found() == ([2, 3, 4, 5], 4)


async def test_a_run_without_an_id_that_is_contradicted_is_not_resumed(earlier):
    earlier.note("old", 4)
    earlier.clock.ahead_ms = 2 * HOUR_MS
    earlier.fill(range(6))

    with pytest.raises(ConfigError, match="was created again since"):
        await earlier.dead_letters.resume("old")


async def test_a_run_without_an_id_is_resumed_where_nothing_contradicts_it(earlier):
    earlier.fill(range(6))
    earlier.note("old", 4)

    run = await earlier.dead_letters.resume("old")

    assert run.state == "done"
