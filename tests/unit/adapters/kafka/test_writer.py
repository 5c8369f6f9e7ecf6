"""The writer over a scripted client: what no broker can be made to do on request."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given, strategies as st

from shifter.adapters.inbox import Inbox
from shifter.adapters.kafka import producer as producers
from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.errors import LastError
from shifter.adapters.kafka.writer import KafkaLaneLog, PendingBatch, PendingRecord
from shifter.adapters.system import SystemClock
from shifter.errors import ConfigError
from shifter.model.reason import Reason
from shifter.ports import Appended, Record, Refused, Unknown
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


async def test_an_empty_inbox_wakes_no_caller():
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


async def test_a_cancelled_caller_disturbs_no_other():
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
def test_a_batch_is_notified_exactly_when_the_last_sent_record_is_reported(data, size):
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


RECORD = Record("shop.mail.low", b"{}", [("shifter", b"{}")], b"key")


class ScriptedProducer:
    """librdkafka's producer, with a cluster that does what the test says."""

    made: ClassVar[list[ScriptedProducer]] = []

    def __init__(self, config):
        self.config, self.sent, self.pollers = config, [], set()
        self.waiting, self.reports = deque(), deque()
        self.room, self.is_answering = 10**9, True
        self.fault, self.refusal = None, None
        self.news = threading.Event()
        ScriptedProducer.made.append(self)

    def produce(self, topic, value, key, *rest):
        part, report, _, timestamp, headers = rest
        assert (part, timestamp) == (-1, 0)
        if self.refusal is not None:
            raise self.refusal
        if len(self) >= self.room:
            raise BufferError
        self.sent.append((topic, value, key, headers))
        self.waiting.append(report)
        if self.is_answering:
            self.answer()

    def answer(self, error=None, count=None):
        for _ in range(len(self.waiting) if count is None else count):
            self.reports.append((self.waiting.popleft(), error))
        self.news.set()

    def poll(self, timeout):
        self.pollers.add(threading.current_thread().name)
        self.news.wait(timeout)
        self.news.clear()
        served = 0
        while self.reports:
            report, error = self.reports.popleft()
            report(error, Written(7))
            served += 1
        if self.fault is not None:
            raise self.fault
        return served

    def list_topics(self, timeout):
        return None

    def purge(self):
        self.answer(KafkaError(KafkaError._PURGE_QUEUE))

    def break_down(self, fault):
        self.fault = fault
        self.news.set()

    def __len__(self):
        return len(self.waiting) + len(self.reports)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(ScriptedProducer, "made", [])
    monkeypatch.setattr(producers, "Producer", ScriptedProducer)
    return ScriptedProducer.made


@pytest.fixture
def log(made):
    log = KafkaLaneLog(
        KafkaConfig("h"), namespace="shop", clock=SystemClock(), max_record_bytes=10_000
    )
    yield log
    for producer in made:
        producer.fault = None
        producer.answer()
    log.close(timeout_s=1)


async def test_nothing_is_made_before_the_first_append(log, made):
    assert made == []

    assert await log.append([RECORD], timeout_s=5) == [Appended()]

    assert len(made) == 1
    assert made[0].sent == [(RECORD.topic, RECORD.value, RECORD.key, RECORD.headers)]


async def test_warm_up_connects_ahead(log, made):
    log.warm_up()
    log.warm_up()

    assert [producer.config["linger.ms"] for producer in made] == [0, 5]


async def test_each_of_many_answers_is_its_own(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].is_answering = False
    tasks = [asyncio.ensure_future(log.append([RECORD], timeout_s=5)) for _ in range(3)]
    await asyncio.sleep(0)

    made[0].answer(None, 1)
    made[0].answer(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), 1)
    made[0].answer(KafkaError(KafkaError._MSG_TIMED_OUT), 1)
    answers = [(await task)[0] for task in tasks]

    assert [type(answer) for answer in answers] == [Appended, Refused, Unknown]


@pytest.mark.parametrize(
    "fault",
    [
        KafkaException(KafkaError(KafkaError._FATAL, "broken", fatal=True)),
        SystemError("returned a result with an exception set"),
    ],
)
async def test_a_broken_client_leaves_unknowns_and_is_replaced(log, made, fault):
    await log.append([RECORD], timeout_s=5)
    made[0].is_answering = False
    alone = asyncio.ensure_future(log.append([RECORD], timeout_s=60))
    batch = asyncio.ensure_future(log.append([RECORD] * 3, timeout_s=60))
    blocked = asyncio.ensure_future(
        asyncio.to_thread(log.append_sync, [RECORD] * 2, timeout_s=60)
    )
    while len(made[0].waiting) < 6:
        await asyncio.sleep(0)

    made[0].break_down(fault)
    answers = [*await alone, *await batch, *await blocked]

    assert [type(answer) for answer in answers] == [Unknown] * 6
    [refused] = await log.append([RECORD], timeout_s=5)
    assert refused.reason == Reason.LOG_AWAY
    log._keeper._made_at -= 10
    assert await log.append([RECORD], timeout_s=5) == [Appended()]
    assert len(made) == 2


async def test_a_full_queue_refuses_a_single_record_at_once(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].room = 0
    began = time.monotonic()

    [answer] = await log.append([RECORD], timeout_s=60)

    assert answer.reason == Reason.QUEUE_FULL
    assert time.monotonic() - began < 20


async def test_a_batch_waits_for_room(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].room, made[0].is_answering = 2, False
    task = asyncio.ensure_future(log.append([RECORD] * 7, timeout_s=60))

    while not task.done():
        made[0].answer()
        await asyncio.sleep(0)

    assert await task == [Appended()] * 7


async def test_without_room_in_time_the_rest_of_a_batch_is_refused(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].room, made[0].is_answering = 2, False

    answers = await log.append([RECORD] * 5, timeout_s=0.05)

    assert [type(answer) for answer in answers] == [Unknown] * 2 + [Refused] * 3
    assert {answer.reason for answer in answers[2:]} == {Reason.QUEUE_FULL}
    sync = await asyncio.to_thread(log.append_sync, [RECORD] * 2, timeout_s=0.05)
    assert [answer.reason for answer in sync] == [Reason.QUEUE_FULL] * 2


async def test_what_the_client_does_not_take_is_refused(log, made):
    await log.append([RECORD], timeout_s=5)
    bad_value = Record("shop.mail.low", None, [])
    made[0].refusal = KafkaException(KafkaError(KafkaError._FATAL, "broken"))

    [broken] = await log.append([RECORD], timeout_s=5)
    made[0].refusal = TypeError("not a str or bytes")
    [mistyped] = await log.append([RECORD], timeout_s=5)
    made[0].refusal = None
    [no_value] = await log.append([bad_value], timeout_s=5)

    answers = (broken, mistyped, no_value)
    assert all(isinstance(answer, Refused) for answer in answers)
    reasons = [answer.reason for answer in answers]
    assert reasons == [Reason.LOG_AWAY, Reason.REFUSED_BY_LOG, Reason.REFUSED_BY_LOG]


async def test_size_counts_value_key_and_headers(log, made):
    headers = [("name", b"1234"), ("none", None)]
    room = 10_000 - len("namenone1234key")

    fits, too_large = await log.append(
        [
            Record("t", bytes(room), headers, b"key"),
            Record("t", bytes(room + 1), headers, b"key"),
        ],
        timeout_s=5,
    )

    assert fits == Appended()
    assert too_large.reason == Reason.TOO_LARGE
    assert "10001 bytes" in too_large.detail


async def test_patience_is_the_callers(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].is_answering = False
    began = time.monotonic()

    one = asyncio.ensure_future(log.append([RECORD], timeout_s=0.1))
    many = asyncio.ensure_future(log.append([RECORD] * 3, timeout_s=0.1))
    sync = asyncio.ensure_future(
        asyncio.to_thread(log.append_sync, [RECORD], timeout_s=0.1)
    )
    answers = [*await one, *await many, *await sync]

    assert [type(answer) for answer in answers] == [Unknown] * 5
    assert time.monotonic() - began < 20


async def test_big_batches_go_by_the_lingering_producer_once_it_is_warm(log, made):
    big = [RECORD] * 300
    await log.append(big, timeout_s=5)
    assert [len(producer.sent) for producer in made] == [0, 300]
    log._bulk_keeper.current._made_at -= 10

    assert await log.append(big, timeout_s=5) == [Appended()] * 300
    assert await log.append([RECORD] * 3, timeout_s=5) == [Appended()] * 3

    by_linger = {p.config["linger.ms"]: len(p.sent) for p in made}
    assert by_linger == {0: 303, 5: 300}


async def test_a_sending_caller_serves_reports_itself(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].pollers.clear()

    await log.append([RECORD] * 250, timeout_s=5)

    assert threading.main_thread().name in made[0].pollers


async def test_close_counts_what_has_no_answer_and_tells_the_callers(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].is_answering = False
    task = asyncio.ensure_future(log.append([RECORD] * 3, timeout_s=60))
    await asyncio.sleep(0)

    assert log.close(timeout_s=0.05) == 3

    assert [type(answer) for answer in await task] == [Unknown] * 3
    assert log.close(timeout_s=1) == 0
    [refused] = log.append_sync([RECORD], timeout_s=1)
    assert refused.reason == Reason.CLOSED


async def test_a_batch_cut_short_by_close_is_refused_from_there(log, made):
    await log.append([RECORD], timeout_s=5)
    task = asyncio.ensure_future(log.append([RECORD] * 1_200, timeout_s=60))
    while len(made[0].sent) < 501:
        await asyncio.sleep(0)

    log.close(timeout_s=5)

    answers = await task
    sent = len(made[0].sent) - 1
    assert 500 <= sent < 1_200
    assert answers[:sent] == [Appended()] * sent
    assert {answer.reason for answer in answers[sent:]} == {Reason.CLOSED}


async def test_close_waits_for_reports(log, made):
    await log.append([RECORD], timeout_s=5)
    made[0].is_answering = False
    task = asyncio.ensure_future(log.append([RECORD] * 3, timeout_s=60))
    await asyncio.sleep(0)
    threading.Timer(0.05, made[0].answer).start()

    assert await asyncio.to_thread(log.close, timeout_s=30) == 0

    assert await task == [Appended()] * 3


def wait_until(check):
    until = time.monotonic() + 30
    while not check() and time.monotonic() < until:
        threading.Event().wait(0.01)
    assert check()


def test_a_forgotten_log_delivers_before_its_thread_ends(made):
    log = KafkaLaneLog(KafkaConfig("h"), namespace="shop", clock=SystemClock())
    log.append_sync([RECORD], timeout_s=5)
    [producer] = made
    producer.is_answering = False
    log.append_sync([RECORD], timeout_s=0.01)
    thread = log._keeper.current._thread
    began = time.monotonic()

    del log
    gc.collect()

    assert time.monotonic() - began < 20
    assert len(producer) == 1
    assert thread.is_alive()
    producer.answer()
    wait_until(lambda: not thread.is_alive())
    assert len(producer) == 0


def test_a_log_that_was_not_closed_warns_at_exit_of_what_may_be_lost(
    log, made, monkeypatch
):
    log.append_sync([RECORD], timeout_s=5)
    made[0].is_answering = False
    log.append_sync([RECORD], timeout_s=0.01)
    monkeypatch.setattr(producers, "_EXIT_S", 0.05)

    with pytest.warns(RuntimeWarning, match="1 records had no answer"):
        log._keeper.close_at_exit()


def test_one_log_serves_two_loops_at_once(log, made):
    answers = []

    def run():
        answers.append(asyncio.run(log.append([RECORD], timeout_s=5)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [[Appended()]] * 2
    assert len(made) == 1


async def test_a_wrong_property_is_raised_by_append_and_not_by_warm_up():
    config = KafkaConfig("h", {"no.such": "1"})
    log = KafkaLaneLog(config, namespace="shop", clock=SystemClock())

    log.warm_up()

    with pytest.raises(ConfigError, match=r"no\.such"):
        await log.append([RECORD], timeout_s=1)
    assert log.close(timeout_s=1) == 0
