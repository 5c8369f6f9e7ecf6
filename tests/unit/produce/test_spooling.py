"""The spool over memory: what goes where while the log is away, and in which order."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shifter.adapters.memory.spool import MemorySpool
from shifter.adapters.system import SystemClock
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.model.reason import Reason
from shifter.ports import Appended, Record, Refused, SpoolEntry, Unknown
from shifter.produce.forward import KeyGate, forward
from shifter.produce.spooling import SpoolingLog
from shifter.testing.clock import FakeClock

LANE = "shop.mail.normal"
SPOOLED = Appended(is_spooled=True)


def record(number, key=None, lane=LANE):
    return Record(lane, b"%d" % number, [], None if key is None else key.encode())


def entries(*records):
    return [SpoolEntry(number, one) for number, one in enumerate(records, 1)]


class Log:
    """A log whose answers the test chooses."""

    def __init__(self):
        self.answer, self.values, self.calls = Appended(), [], 0
        self.grew = threading.Event()

    def append_sync(self, records, *, timeout_s):
        self.calls += 1
        answers = [
            self.answer(one) if callable(self.answer) else self.answer
            for one in records
        ]
        self.values += [
            int(one.value)
            for one, answer in zip(records, answers, strict=True)
            if answer == Appended()
        ]
        self.grew.set()
        return answers

    async def append(self, records, *, timeout_s):
        return self.append_sync(records, timeout_s=timeout_s)

    def warm_up(self):
        pass

    def close(self, *, timeout_s):
        return 0


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def spool():
    return MemorySpool(FakeClock(), most=100)


@pytest.fixture
def state():
    return {"up": False}


@pytest.fixture
def spooling(log, spool, state):
    found = SpoolingLog(log, spool, clock=SystemClock(), is_up=lambda: state["up"])
    yield found
    found.close(timeout_s=30)


async def until(is_true):
    async with asyncio.timeout(40):
        while not is_true():
            await asyncio.sleep(0)


async def test_what_the_log_takes_is_not_spooled(spooling, log, spool):
    assert await spooling.append([record(1)], timeout_s=30) == [Appended()]
    assert spooling.append_sync([record(2)], timeout_s=30) == [Appended()]

    assert log.values == [1, 2]
    assert spool.depth().waiting == 0


@pytest.mark.parametrize(
    "answer",
    [
        Unknown("no answer"),
        Refused(Reason.QUEUE_FULL, "full"),
        Refused(Reason.LOG_AWAY, "the client broke"),
    ],
)
async def test_records_without_an_answer_are_spooled_and_later_ones_at_once(
    spooling, log, spool, answer
):
    log.answer = answer

    assert await spooling.append([record(1), record(2)], timeout_s=30) == [SPOOLED] * 2
    assert await spooling.append([record(3)], timeout_s=30) == [SPOOLED]
    assert spooling.append_sync([record(4)], timeout_s=30) == [SPOOLED]

    assert log.calls == 1
    assert [int(one.record.value) for one in spool.take(9)] == [1, 2, 3, 4]


async def test_calls_that_block_all_threads_of_asyncio_hold_up_no_spooling(
    spooling, log
):
    log.answer, over = Unknown("no answer"), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    blocked = loop.run_in_executor(None, over.wait, 50)
    try:
        async with asyncio.timeout(40):
            assert await spooling.append([record(1)], timeout_s=30) == [SPOOLED]
    finally:
        over.set()
        await blocked


async def test_a_certain_refusal_is_no_matter_of_the_spool(spooling, log, spool):
    log.answer = Refused(Reason.TOO_LARGE, "9 bytes")

    [answer] = await spooling.append([record(1)], timeout_s=30)

    assert answer == log.answer
    assert spool.depth().waiting == 0


async def test_only_what_has_no_answer_is_spooled(spooling, log, spool):
    log.answer = lambda one: Unknown("?") if one.value == b"2" else Appended()

    answers = await spooling.append([record(n) for n in (1, 2, 3)], timeout_s=30)

    assert answers == [Appended(), SPOOLED, Appended()]
    assert [int(one.record.value) for one in spool.take(9)] == [2]


async def test_all_is_forwarded_in_order_once_the_log_is_back(
    spooling, log, spool, state
):
    log.answer = Unknown("?")
    for number in range(20):
        await spooling.append([record(number, key=f"k{number % 3}")], timeout_s=30)

    log.answer, state["up"] = Appended(), True
    await until(lambda: spool.depth().waiting == 0)

    for key in range(3):
        mine = [number for number in log.values if number % 3 == key]
        assert mine == sorted(mine)
    assert sorted(log.values) == list(range(20))


async def test_a_key_stays_behind_its_spooled_records(spooling, log, spool, state):
    log.answer = Unknown("?")
    await spooling.append([record(1, key="k")], timeout_s=30)
    spooling._came_back()
    log.answer = Appended()

    answers = await spooling.append(
        [record(2, key="k"), record(3, key="other"), record(4)], timeout_s=5
    )

    assert answers == [SPOOLED, Appended(), Appended()]
    assert log.values == [3, 4]
    state["up"] = True
    await until(lambda: log.values == [3, 4, 1, 2])
    await until(lambda: spooling._gate.is_open)
    assert await spooling.append([record(5, key="k")], timeout_s=30) == [Appended()]


async def test_keys_wait_for_what_an_earlier_process_left(log, spool, state):
    spool.put(entries(record(1, key="k")), timeout_s=30)
    spooling = SpoolingLog(log, spool, clock=SystemClock(), is_up=lambda: state["up"])
    spooling.warm_up()

    answers = await spooling.append([record(2, key="k"), record(3)], timeout_s=30)

    assert answers == [SPOOLED, Appended()]
    state["up"] = True
    await until(lambda: log.values == [3, 1, 2])
    spooling.close(timeout_s=30)


@pytest.mark.parametrize(
    ("waiting", "taken"),
    [
        (69, {"low", "normal", "high", "critical"}),
        (70, {"normal", "high", "critical"}),
        (85, {"high", "critical"}),
        (95, {"critical"}),
        (100, set()),
    ],
)
async def test_a_full_spool_refuses_the_least_important_first(
    spooling, spool, waiting, taken
):
    spool.put(entries(*[record(0)] * waiting), timeout_s=30)
    spooling._is_away = True
    lanes = ["low", "normal", "high", "critical"]

    answers = await spooling.append(
        [record(1, lane=f"shop.mail.{name}") for name in lanes], timeout_s=5
    )

    found = {
        name for name, answer in zip(lanes, answers, strict=True) if answer == SPOOLED
    }
    assert found == taken
    for answer in answers:
        assert answer == SPOOLED or answer.reason == Reason.SPOOL_FULL


async def test_a_full_spool_makes_no_refusal_of_an_unknown_outcome(
    spooling, log, spool
):
    spool.put(entries(*[record(0)] * 100), timeout_s=30)
    log.answer = Unknown("?")

    assert await spooling.append([record(1)], timeout_s=30) == [Unknown("?")]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StoreUnavailableError("spool", "put", "busy"), Unknown),
        (StoreRefusedError("spool", "put", "disk full"), Refused),
    ],
)
async def test_a_spool_that_fails_reports_it(spooling, spool, error, kind, monkeypatch):
    def fail(records, *, timeout_s):
        raise error

    spooling._is_away = True
    monkeypatch.setattr(spool, "put", fail)

    [answer] = await spooling.append([record(1)], timeout_s=30)

    assert isinstance(answer, kind)
    assert error.args[0] in str(answer) or str(error) in answer.detail


def test_a_record_the_log_never_takes_holds_up_no_other(log, spool):
    spool.put(entries(record(1), record(2), record(3)), timeout_s=30)
    log.answer = lambda one: (
        Refused(Reason.TOO_LARGE, "big") if one.value == b"2" else Appended()
    )

    assert forward(spool, log) == 3

    assert log.values == [1, 3]
    [(kept, why)] = spool.refused.values()
    assert (kept.value, why) == (b"2", "too_large: big")


async def test_what_the_log_refused_is_tried_again_when_nothing_else_waits(
    log, spool, state, monkeypatch
):
    monkeypatch.setattr("shifter.produce.forward._AGAIN_S", 0.01)
    spool.put(entries(record(1, "k"), record(2, "k"), record(3)), timeout_s=30)
    log.answer = lambda one: (
        Refused(Reason.REFUSED_BY_LOG, "no right") if one.key else Appended()
    )
    spooling = SpoolingLog(log, spool, clock=SystemClock(), is_up=lambda: True)
    spooling.warm_up()
    await until(lambda: spool.depth().refused == 2)
    tried = log.calls
    await until(lambda: log.calls > tried + 2)

    log.answer = Appended()

    await until(lambda: log.values == [3, 1, 2])
    await until(lambda: spool.depth()[:2] == (0, 0))
    spooling.close(timeout_s=30)


def test_what_the_log_refuses_for_the_moment_stays_in_line(log, spool):
    spool.put(entries(record(1), record(2)), timeout_s=30)
    log.answer = Refused(Reason.LOG_AWAY, "the client broke")

    assert forward(spool, log) == 0

    assert (spool.depth().waiting, spool.depth().refused) == (2, 0)


def test_of_one_key_the_next_waits_for_the_answer_to_the_one_before(log, spool):
    spool.put(entries(record(1, "k"), record(2, "k"), record(3, "x")), timeout_s=30)
    log.answer = lambda one: Unknown("?") if one.value == b"1" else Appended()

    assert forward(spool, log) == 1
    assert log.values == [3]

    log.answer = Appended()
    while forward(spool, log):
        pass
    assert log.values == [3, 1, 2]


def test_more_keys_than_are_kept_hold_all_keys(monkeypatch):
    monkeypatch.setattr("shifter.produce.forward._MOST_KEYS", 2)
    gate = KeyGate()

    gate.hold((record(n, key=f"k{n}"), n) for n in (1, 2, 3))

    assert gate.holds(record(9, key="never seen"))
    gate.move(4)
    assert not gate.holds(record(9, key="never seen"))


async def test_what_was_handed_over_earlier_comes_first_however_late_it_is_spooled(
    spooling, log, spool
):
    slow = asyncio.Event()

    async def append(records, *, timeout_s):
        await slow.wait()
        return [Unknown("?")] * len(records)

    log.append = append
    first = asyncio.create_task(spooling.append([record(1, "k")], timeout_s=30))
    await asyncio.sleep(0)
    spooling._is_away = True
    assert await spooling.append([record(2, "k")], timeout_s=30) == [SPOOLED]
    slow.set()
    assert await first == [SPOOLED]

    assert [int(one.record.value) for one in spool.take(9)] == [1, 2]


def test_what_may_still_be_overtaken_is_not_forwarded(log, spool):
    spool.put(entries(record(1), record(2), record(3)), timeout_s=30)

    assert forward(spool, log, before=3) == 2
    assert log.values == [1, 2]


def test_one_forwarder_at_a_time(spool):
    with spool.forwarding() as first, spool.forwarding() as second:
        assert (first, second) == (True, False)
    with spool.forwarding() as again:
        assert again
