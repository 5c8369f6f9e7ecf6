from __future__ import annotations

import asyncio

from confluent_kafka import KafkaError
from hypothesis import given, strategies as st

from shifter.adapters.inbox import Inbox
from shifter.adapters.kafka.errors import LastError
from shifter.adapters.kafka.pending import PendingBatch, PendingRecord
from shifter.model.reason import Reason
from shifter.ports import Appended, Refused, Unknown
from shifter.testing.clock import FakeClock

FULL = Refused(Reason.QUEUE_FULL, "full")
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)


class Written:
    """What a report is about."""

    def __init__(self, offset):
        self.offset = lambda: offset


AT_7, NOWHERE = Written(7), Written(None)


class World:
    def __init__(self):
        self.loop, self.clock = asyncio.get_running_loop(), FakeClock()
        self.inbox, self.last = Inbox(self.loop, self.clock), LastError()
        self.wakes = 0
        call_soon_threadsafe = self.loop.call_soon_threadsafe

        def counted(*args):
            self.wakes += 1
            return call_soon_threadsafe(*args)

        self.loop.call_soon_threadsafe = counted

    def one(self, timeout_s=5.0):
        future = self.loop.create_future()
        one = PendingRecord(self.inbox, future, self.last)
        self.inbox.enroll(one, timeout_s)
        return one, future


async def test_each_report_reaches_its_caller():
    world = World()
    (good, good_future), (bad, bad_future) = world.one(), world.one()

    good.report(None, AT_7)
    bad.report(TOO_LARGE, AT_7)
    world.inbox.wake()

    assert await good_future == Appended()
    assert (await bad_future).reason == Reason.TOO_LARGE
    assert not good.bucket
    assert not bad.bucket


async def test_one_wake_up_serves_all_reports_of_a_round():
    world = World()
    pending = [world.one() for _ in range(100)]

    for one, _ in pending:
        one.report(None, AT_7)
        world.inbox.wake()

    assert await asyncio.gather(*(f for _, f in pending)) == [Appended()] * 100
    assert world.wakes == 1


async def test_a_report_after_the_wake_up_gets_another():
    world = World()
    first, second = world.one(), world.one()
    first[0].report(None, AT_7)
    world.inbox.wake()
    await first[1]

    second[0].report(None, AT_7)
    world.inbox.wake()

    assert await second[1] == Appended()


async def test_nothing_done_wakes_nobody():
    world = World()
    world.one()

    world.inbox.wake()

    assert world.wakes == 0


async def test_patience_ends_with_unknown_and_the_last_complaint():
    world = World()
    _, impatient = world.one(timeout_s=2)
    _, patient = world.one(timeout_s=60)
    world.last(KafkaError(KafkaError._SSL, "certificate verify failed"))

    world.clock.advance(3)

    answer = await impatient
    assert isinstance(answer, Unknown)
    assert "certificate verify failed" in answer.detail
    assert not patient.done()


async def test_a_report_after_patience_ended_changes_nothing():
    world = World()
    one, future = world.one(timeout_s=0)
    world.clock.advance(1)
    answer = await future

    one.report(None, AT_7)
    world.inbox.wake()
    other, other_future = world.one()
    other.report(None, AT_7)
    world.inbox.wake()

    assert await other_future == Appended()
    assert future.result() == answer


async def test_a_cancelled_caller_disturbs_nobody():
    world = World()
    (cancelled, future), (one, other) = world.one(), world.one()
    future.cancel()

    cancelled.report(None, AT_7)
    one.report(None, AT_7)
    world.inbox.wake()

    assert await other == Appended()


async def test_abandoned_appends_are_unknown():
    world = World()
    (done, done_future), (_, lost) = world.one(), world.one()
    done.report(None, AT_7)

    world.inbox.wake()
    world.inbox.abandon("the client broke")

    assert await done_future == Appended()
    assert await lost == Unknown("the client broke")


def test_a_loop_that_ended_is_no_trouble():
    async def leave():
        world = World()
        return world.inbox, world.one()[0]

    inbox, one = asyncio.run(leave())
    one.report(None, AT_7)

    inbox.wake()
    inbox.abandon("gone")

    assert not inbox.done


def make_batch(size):
    told = []
    return PendingBatch(size, lambda: told.append(1), LastError()), told


def test_an_empty_batch_is_answered_at_once():
    batch, _ = make_batch(0)

    assert not batch.is_awaited()
    assert batch.answers("") == []


@given(data=st.data(), size=st.integers(1, 30))
def test_a_batch_is_told_exactly_when_the_last_sent_record_is_reported(data, size):
    batch, told = make_batch(size)
    refused = data.draw(st.sets(st.integers(0, size - 1)))
    failed = data.draw(st.sets(st.integers(0, size - 1))) - refused
    sent = [index for index in range(size) if index not in refused]
    order = data.draw(st.permutations(sent))
    early = data.draw(st.integers(0, len(order)))
    for index in refused:
        batch.refuse(index, FULL)

    def report(index):
        batch.report(index, TIMED_OUT if index in failed else None, AT_7)

    for index in order[:early]:
        report(index)
    is_awaited = batch.is_awaited()
    for index in order[early:]:
        assert is_awaited
        assert not told
        report(index)

    assert is_awaited == (early < len(order))
    assert bool(told) == is_awaited
    for index, answer in enumerate(batch.answers("")):
        if index in refused:
            assert answer == FULL
        else:
            assert isinstance(answer, Unknown if index in failed else Appended)


def test_records_without_a_report_are_unknown():
    batch, told = make_batch(3)
    batch.report(1, None, AT_7)

    assert batch.is_awaited()
    assert batch.answers("too late") == [
        Unknown("too late"),
        Appended(),
        Unknown("too late"),
    ]
    assert not told


def test_a_success_without_a_place_in_the_log_is_none():
    batch, _ = make_batch(2)
    batch.report(0, None, AT_7)
    batch.report(1, None, NOWHERE)

    assert not batch.is_awaited()
    written, doubted = batch.answers("")
    assert written == Appended()
    assert isinstance(doubted, Unknown)
    assert "DUPLICATE_SEQUENCE_NUMBER" in doubted.detail


async def test_one_that_was_taken_for_a_duplicate_is_unknown():
    world = World()
    one, future = world.one()

    one.report(None, NOWHERE)
    one.finish()

    assert isinstance(await future, Unknown)
