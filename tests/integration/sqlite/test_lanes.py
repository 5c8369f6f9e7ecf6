"""Lanes in a file: what one transaction, one fetch and one worker may do to others."""

from __future__ import annotations

import asyncio
import secrets
import socket
import tempfile
import threading
from pathlib import Path

import pytest

from shifter.adapters.sqlite.admin import SqliteLogAdmin
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.file import NoSpaceError
from shifter.adapters.sqlite.log import SqliteLaneLog
from shifter.adapters.sqlite.member import MemberTable
from shifter.adapters.system import SystemClock
from shifter.model.reason import Reason
from shifter.ports import Appended, Record, Refused, TopicSpec
from shifter.testing.clock import FakeClock

LANE = "shop.mail.low"
NEW_TOPIC = (1, 60_000, 1_000_000)


def records(values, *, topic=LANE, key=None):
    return [Record(topic, b"%d" % value, [], key) for value in values]


def numbers(deliveries):
    return [int(delivery.value) for delivery in deliveries]


class Process:
    """What one process has open; feeds leave in the end."""

    def __init__(self, path):
        self.database = Database(path)
        self.log = SqliteLaneLog(self.database, SystemClock(), new_topic=NEW_TOPIC)
        self.admin = SqliteLogAdmin(self.database.share(), SystemClock())
        self._feeds = []

    async def feed(self, *topics):
        feed = SqliteLaneFeed(self.log, topics or [LANE], SystemClock())
        await feed.open()
        self._feeds.append(feed)
        return feed

    async def append(self, wanted):
        answers = await self.log.append(wanted, timeout_s=10)
        assert answers == [Appended()] * len(wanted)

    async def forget_members(self):
        """As if every member had been silent for too long."""
        await self.database.write(lambda c: c.execute("DELETE FROM member"))

    async def waiting(self, topic=LANE):
        [depth] = await self.admin.depths([topic])
        return depth.waiting

    async def close(self):
        for feed in self._feeds:
            await feed.close(timeout_s=5)
        await self.admin.close()
        self.log.close(timeout_s=5)


@pytest.fixture
async def process(tmp_path):
    opened = Process(tmp_path / "log.db")
    yield opened
    await opened.close()


async def test_an_undone_transaction_leaves_no_topic_behind(process):
    """What it made must not be remembered: its id is the next topic's."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(_):
        entered.set()
        go_on.wait(40)

    def fail(_):
        raise LookupError

    holding = asyncio.ensure_future(process.database.write(hold))
    await asyncio.to_thread(entered.wait, 40)
    appending = asyncio.ensure_future(process.append(records([1], topic="shop.a.low")))
    failing = asyncio.ensure_future(process.database.write(fail))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(holding, appending)
    with pytest.raises(LookupError):
        await failing
    await process.append(records([2], topic="shop.b.low"))

    first = await process.feed("shop.a.low")
    second = await process.feed("shop.b.low")

    assert numbers(await first.fetch(10, wait_s=5)) == [1]
    assert numbers(await second.fetch(10, wait_s=5)) == [2]


async def test_what_a_dead_worker_left_is_handed_out_in_order_and_never_too_much(
    process,
):
    await process.append(records(range(50)))
    dead = await process.feed()
    held = await dead.fetch(40, wait_s=5)
    await dead.settle(held[1:3])
    await dead.fetch(0, wait_s=0)
    await process.forget_members()
    heir = await process.feed()

    found = []
    while batch := await heir.fetch(7, wait_s=0.2):
        assert len(batch) <= 7
        found += numbers(batch)

    assert found == [0, *range(3, 50)]


async def test_a_flood_without_keys_does_not_hold_up_a_key(process):
    await process.append(records(range(3_000)))
    await process.append(records([9_999], key=b"k"))
    feed = await process.feed()

    fetched = [numbers(await feed.fetch(1, wait_s=5)) for _ in range(4)]

    assert [9_999] in fetched


async def competing(process, feed, expected):
    """Wait until the feed has looked at the members; each record makes it look."""
    async with asyncio.timeout(60):
        while feed.competes() is not expected:
            await process.append(records([1]))
            await feed.fetch(1, wait_s=0.05)


async def test_members_of_one_lane_compete_and_those_of_others_do_not(process):
    first, other = await process.feed(), await process.feed("shop.print.low")
    for feed in (first, other):
        await feed.fetch(1, wait_s=0)
        assert not feed.competes()

    await process.feed(LANE, "shop.print.low")
    await competing(process, first, True)

    await process.forget_members()
    await competing(process, first, False)


async def test_records_the_file_lost_are_not_waited_for(process):
    await process.append(records(range(10)))
    await process.database.write(
        lambda c: c.execute("DELETE FROM job WHERE id & 1048575 IN (3, 4)")
    )
    feed = await process.feed()

    await feed.settle(await feed.fetch(10, wait_s=5))
    await feed.fetch(10, wait_s=0)

    assert await process.waiting() == 0


class ShiftedClock(SystemClock):
    """A clock that a test sets on."""

    wall_ms = 0
    on_s = 0.0

    def epoch_ms(self):
        return super().epoch_ms() + self.wall_ms

    def monotonic(self):
        return super().monotonic() + self.on_s


async def test_the_end_of_an_older_hand_out_ends_nothing(process):
    await process.append(records([1]))
    feed = await process.feed()
    [old] = await feed.fetch(1, wait_s=5)
    await feed._rejoin()
    [new] = await feed.fetch(1, wait_s=5)

    await feed.settle([old])
    assert feed.begin([old, new]) == [new]
    await feed.settle([new])
    await feed.fetch(1, wait_s=0)

    assert await process.waiting() == 0


async def test_a_successor_is_written_after_its_source_was_taken_over(process):
    """As on every log: the claim store tells the new owner that it was handed on."""
    await process.append(records([1]))
    old = await process.feed()
    [source] = await old.fetch(1, wait_s=5)
    await process.forget_members()
    new = await process.feed()
    [again] = await new.fetch(1, wait_s=5)

    answers = await old.hand_over(
        [(source, *records([2], topic="shop.mail.dlt"))], timeout_s=5
    )

    assert answers == [Appended()]
    assert await process.waiting("shop.mail.dlt") == 1
    assert new.begin([again]) == [again]


async def test_the_source_of_a_dead_letter_stays_until_it_is_settled(process):
    """The claim is ended between the two: who crashes there must leave a trace."""
    await process.append(records([1, 2]))
    feed = await process.feed()
    first, second = await feed.fetch(2, wait_s=5)

    await feed.hand_over([(first, *records([3], topic="shop.mail.dlt"))], timeout_s=5)
    await feed.hand_over([(second, *records([4]))], timeout_s=5)
    await process.forget_members()
    again = await (await process.feed()).fetch(10, wait_s=5)

    assert numbers(again) == [1, 4]


async def test_a_nearly_full_disk_takes_nothing_new_and_lets_work_end(process):
    await process.append(records([1, 2]))
    process.log._kept_free = 1 << 60
    feed = await process.feed()

    [refused] = await process.log.append(records([3]), timeout_s=5)
    first, second = await feed.fetch(10, wait_s=5)
    answers = await feed.hand_over(
        [(first, *records([4], topic="shop.mail.dlt"))], timeout_s=5
    )
    await feed.settle([first, second])
    await feed.fetch(10, wait_s=0)

    assert (type(refused), refused.reason) == (Refused, Reason.QUEUE_FULL)
    assert answers == [Appended()]
    assert await process.waiting() == 0


async def test_a_full_file_refuses_for_now_and_goes_on_when_there_is_room(process):
    await process.append(records(range(10)))
    feed = await process.feed()
    (pages,) = await process.database.write(
        lambda c: c.execute("PRAGMA max_page_count = 1").fetchone()
    )

    [refused] = await process.log.append(
        [Record(LANE, bytes(900_000), [])], timeout_s=5
    )
    await feed.settle(await feed.fetch(10, wait_s=5))
    await process.database.write(
        lambda c: c.execute(f"PRAGMA max_page_count = {pages + 1_000}").fetchone()
    )
    await process.append([Record(LANE, bytes(900_000), [])])

    assert (type(refused), refused.reason) == (Refused, Reason.QUEUE_FULL)
    assert "no space" in refused.detail
    [last] = await feed.fetch(10, wait_s=5)
    assert len(last.value) == 900_000


async def test_a_record_that_no_row_can_hold_fails_alone(process):
    good, late = records([1, 2])
    late = Record(late.topic, late.value, [], None, 253_402_300_799_000)
    named = Record(LANE, b"1", [("\ud800", b"1")])

    answers = await process.log.append([late, good, named], timeout_s=5)

    assert [type(answer) for answer in answers] == [Refused, Appended, Refused]
    assert await process.waiting() == 1


async def test_nothing_begins_once_others_may_believe_its_worker_dead(process):
    clock = ShiftedClock()
    feed = SqliteLaneFeed(process.log, [LANE], clock)
    await feed.open()
    await process.append(records([1]))
    found = await feed.fetch(1, wait_s=5)
    assert feed.begin(found) == found

    clock.on_s = 10.0
    late = feed.begin(found)
    clock.on_s = 0.0

    assert late == []
    async with asyncio.timeout(20):
        while not (again := await feed.fetch(1, wait_s=1)):
            pass
    assert numbers(again) == [1]
    await feed.close(timeout_s=5)


async def test_a_wall_clock_that_is_set_on_makes_no_member_look_dead(process):
    await process.append(records([1]))
    feed = await process.feed()
    await feed.fetch(1, wait_s=5)
    clock = ShiftedClock()
    clock.wall_ms = 86_400_000

    other = SqliteLaneFeed(process.log, [LANE], clock)
    await other.open()

    assert await other.fetch(1, wait_s=0.3) == []
    await other.close(timeout_s=5)


async def test_where_no_bell_can_hang_work_is_found_all_the_same(process, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * 200)
    feed = await process.feed()

    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(feed.fetch(1, wait_s=5))
        await process.append(records([1]))

    assert numbers(fetching.result()) == [1]


async def test_an_admin_closed_twice_leaves_the_file_to_its_other_users(process):
    admin = SqliteLogAdmin(process.database.share(), SystemClock())

    await admin.close()
    await admin.close()

    await process.append(records([1]))


async def test_expired_member_cannot_rejoin_when_its_exit_was_not_persisted(
    process, monkeypatch
):
    path = str(Path(tempfile.gettempdir()) / f"shifter-test-{secrets.token_hex(6)}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(path)
    members = MemberTable(SystemClock())
    await process.database.write(lambda c: members.join(c, [LANE], path))
    keyed = [Record(LANE, b"%d" % n, [], b"k%d" % n) for n in range(16)]
    await process.append(keyed)

    # As one that is killed between its look at the others and its transaction.
    with monkeypatch.context() as patch:
        patch.setattr(process.database, "write", full_disk)
        with pytest.raises(NoSpaceError):
            await process.feed()
    feed = await process.feed()
    found = await feed.fetch(100, wait_s=1)

    assert sorted(numbers(found)) == list(range(16))
    assert not Path(path).exists()


async def full_disk(_):
    raise NoSpaceError(Path("log.db"), "write")


async def test_bells_of_the_dead_are_taken_down_and_nothing_else_is(process, tmp_path):
    mine = Path(tempfile.gettempdir()) / f"shifter-test-{tmp_path.name}"
    others = tmp_path / "socket"
    for path in (mine, others):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.bind(str(path))
    rows = [(str(mine),), (str(others),)]
    await process.database.write(
        lambda c: c.executemany(
            "INSERT INTO member (until_ms, topics, socket, waiting) "
            "VALUES (1, 'x', ?, 1)",
            rows,
        )
    )

    await process.feed()

    assert not mine.exists()
    assert others.exists()


@pytest.mark.parametrize("key", [b"a", b"b", b"c", b"d"])
async def test_a_key_is_with_one_worker_at_a_time_and_keeps_its_order(process, key):
    """Whoever its part falls to waits until the worker before is through."""
    await process.append(records(range(6), key=key))
    first = await process.feed()
    begun = await first.fetch(2, wait_s=5)
    second = await process.feed()

    early = await second.fetch(10, wait_s=0.3)
    await first.settle(begun)
    await first.fetch(0, wait_s=0)
    seen = numbers(begun)
    async with asyncio.timeout(40):
        while len(seen) < 6:
            for feed in (first, second):
                found = await feed.fetch(1, wait_s=0.05)
                seen += numbers(found)
                await feed.settle(found)

    assert early == []
    assert seen == list(range(6))


async def test_topic_that_is_kept_by_age_loses_its_oldest_records_only(tmp_path):
    topic, clock = "shop.events", FakeClock()
    log = SqliteLaneLog(
        Database(tmp_path / "log.db"),
        clock,
        new_topic=NEW_TOPIC,
        kept_ms={topic: 3_600_000},
    )
    admin = SqliteLogAdmin(log.database.share(), clock)

    async def kept(name):
        batches = [batch async for batch in admin.scan(name)]
        return [int(delivery.value) for batch in batches for delivery in batch]

    for number in range(4):
        await log.append(records([number], topic=topic), timeout_s=10)
        await log.append(records([number]), timeout_s=10)
        clock.advance(1_500)

    assert await kept(topic) == [1, 2, 3]
    assert await kept(LANE) == [0, 1, 2, 3]
    assert await admin.count(topic) == 3
    clock.advance(7_200)
    await log.append(records([4], topic=topic), timeout_s=10)
    assert await kept(topic) == [4]
    assert (await admin.spans(topic))[0] == (4, 5)
    # The file says so too, where an operator looks at its topics.
    spec = TopicSpec(topic, 1, 3_600_000, 1_000_000)
    assert await admin.diff([spec]) == []
    await admin.close()
    log.close(timeout_s=5)
