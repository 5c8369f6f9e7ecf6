"""A supervisor over children that a test ends, and the health of their processes."""

from __future__ import annotations

import asyncio
import socket
import threading
from http import HTTPStatus
from types import SimpleNamespace

import msgspec
import pytest

from shifter.policy.health import HealthPolicy, WorkProgress
from shifter.runtime.heartbeat_socket import heartbeat_sockets
from shifter.supervise import supervisor as module
from shifter.supervise.probes import ProbeServer
from shifter.supervise.supervisor import (
    ABORT,
    DRAINED_EXIT,
    ProcessHealth,
    Supervisor,
)
from shifter.telemetry import WorkerMetrics
from shifter.testing.clock import FakeClock
from shifter.work.heartbeat import Heartbeat

POLICY = HealthPolicy(silent_s=10, stalled_s=60, overdue_s=90)
SOCKETS: list[socket.socket] = []
"""Opened by the test that runs, and closed at its end."""


@pytest.fixture(autouse=True)
def closed():
    yield
    while SOCKETS:
        SOCKETS.pop().close()


class Child:
    """A child process in name only: it ends when a test or the supervisor ends it."""

    def __init__(self, *, target, args, name) -> None:
        self.name, (self.channel,) = name, args
        self.channel = self.channel.dup()
        self.pid, self.exitcode, self.orders = None, None, []
        self.ended, self.ends_by = threading.Event(), {"terminate": 0, "kill": -9}

    def start(self) -> None: ...

    def is_alive(self) -> bool:
        return not self.ended.is_set()

    def join(self) -> None:
        self.ended.wait(60)

    def terminate(self) -> None:
        self._order("terminate")

    def kill(self) -> None:
        self._order("kill")

    def end(self, code: int) -> None:
        self.exitcode = code if self.exitcode is None else self.exitcode
        self.ended.set()

    def beat(self, progress: WorkProgress) -> None:
        beat(self.channel, progress)

    def _order(self, order: str) -> None:
        self.orders.append(order)
        if order in self.ends_by:
            self.end(self.ends_by[order])


class World:
    """A supervisor and the children that it has started."""

    def __init__(self, processes: int = 1) -> None:
        self.children: list[Child] = []
        self.health = ProcessHealth(processes, FakeClock(), POLICY)
        self.supervisor = Supervisor(
            lambda channel: None,
            processes=processes,
            kill_after_s=60,
            health=self.health,
            watchdog_s=0,
        )
        self.supervisor._context = SimpleNamespace(Process=self._child)

    def _child(self, **facts) -> Child:
        self.children.append(Child(**facts))
        SOCKETS.append(self.children[-1].channel)
        return self.children[-1]

    async def until(self, count: int) -> list[Child]:
        async with asyncio.timeout(40):
            while len(self.children) < count:
                await asyncio.sleep(0)
        return self.children


def beat(channel, progress: WorkProgress, *, refusal: str = "", jobs: int = 0) -> None:
    metrics = WorkerMetrics()
    metrics.attempts.of("default", "NORMAL").inc(jobs)
    heartbeat = Heartbeat(7, progress, metrics.snapshot(), refusal)
    channel.send(msgspec.msgpack.encode(heartbeat))


def well(**facts) -> WorkProgress:
    found = {"is_ready": True, "unpolled_s": 0.0, "unsettled_s": 0.0, "running": 1}
    return WorkProgress(**(found | facts))


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)


async def test_child_that_ends_by_itself_is_started_again():
    world = World()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(world.supervisor.run())
        [first] = await world.until(1)

        first.end(1)

        _, second = await world.until(2)
        world.supervisor.stop()
    assert (first.name, second.name) == ("shifter-worker-0", "shifter-worker-0")
    assert run.result() == 0
    assert world.health.metrics()["shifter_worker_restarts_total"] == {(): 1}


class Pauses:
    """Takes the place of the log; remembers the pause in each line."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def error(self, _event, **facts) -> None:
        self.seconds.append(facts["again_in_s"])


async def test_wait_before_a_restart_doubles_until_a_child_had_joined():
    world, pauses = World(), Pauses()
    world.supervisor._log = pauses
    async with asyncio.TaskGroup() as group:
        group.create_task(world.supervisor.run())

        for number, joins in enumerate([False, False, True]):
            child = (await world.until(number + 1))[number]
            if joins:
                child.beat(well())
            child.end(1)

        await world.until(4)
        world.supervisor.stop()
    assert pauses.seconds == [0.01, 0.02, 0.01]


@pytest.mark.parametrize("code", [77, 78])
async def test_child_that_cannot_start_at_all_ends_the_others_and_gives_the_code(code):
    world = World(processes=2)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(world.supervisor.run())
        bad, other = await world.until(2)

        bad.end(code)

    assert run.result() == code
    assert other.orders == ["terminate"]
    assert len(world.children) == 2


async def test_supervisor_stops_when_the_awaitable_is_done():
    world, done = World(processes=2), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        run = group.create_task(world.supervisor.run(done.wait()))
        children = await world.until(2)

        done.set()

    assert run.result() == 0
    assert [child.orders for child in children] == [["terminate"]] * 2


async def test_abort_orders_each_child_to_end_and_kills_those_that_do_not(monkeypatch):
    monkeypatch.setattr(module, "_ABORT_S", 0.05)
    world = World()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.supervisor.run())
        [child] = await world.until(1)
        child.ends_by = {"kill": -9}

        world.supervisor.abort()

    assert child.channel.recv(64) == ABORT
    assert child.orders == ["terminate", "kill"]


async def test_second_signal_within_a_moment_is_the_same_request(monkeypatch):
    monkeypatch.setattr(module, "_MOMENT_S", 60)
    world = World()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.supervisor.run())
        [child] = await world.until(1)
        child.ends_by = {}
        child.channel.setblocking(False)

        world.supervisor._on_signal()
        world.supervisor._on_signal()

        with pytest.raises(BlockingIOError):
            child.channel.recv(64)
        child.end(0)


async def test_later_signal_aborts(monkeypatch):
    monkeypatch.setattr(module, "_MOMENT_S", 0)
    world = World()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.supervisor.run())
        [child] = await world.until(1)
        child.ends_by = {}

        world.supervisor._on_signal()
        world.supervisor._on_signal()

        assert child.channel.recv(64) == ABORT
        child.end(0)


class Process:
    """The health of one process, and the socket on which it reports."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.health = ProcessHealth(1, self.clock, POLICY)
        ours, self.channel = heartbeat_sockets()
        SOCKETS.extend((ours, self.channel))
        self.health.began(0, ours)

    def condition(self) -> tuple[bool, bool, str]:
        [found] = self.health.conditions()
        return found.is_live, found.is_ready, found.detail


def test_process_without_a_heartbeat_is_live_while_it_may_still_start():
    process = Process()
    before = process.condition()

    process.clock.advance(POLICY.stalled_s + 1)

    assert before == (True, False, "starting")
    assert process.condition() == (False, False, "has not begun")


def test_process_is_ready_once_it_has_joined():
    process = Process()
    beat(process.channel, well(is_ready=False))
    joining = process.condition()

    beat(process.channel, well())

    assert joining == (True, False, "joining")
    assert process.condition() == (True, True, "ok")


@pytest.mark.parametrize(
    "facts",
    [{"unsettled_s": 61.0}, {"overdue_s": 91.0}, {"unpolled_s": 61, "running": 0}],
)
def test_process_that_makes_no_progress_is_not_live(facts):
    process = Process()

    beat(process.channel, well(**facts))

    is_live, is_ready, _ = process.condition()
    assert (is_live, is_ready) == (False, False)


def test_silent_process_is_not_live_and_the_newest_heartbeat_counts():
    process = Process()
    beat(process.channel, well())
    process.condition()
    process.clock.advance(POLICY.silent_s + 1)
    silent = process.condition()

    beat(process.channel, well(unsettled_s=99.0))
    beat(process.channel, well())

    assert silent == (False, False, "silent for 11 s")
    assert process.condition() == (True, True, "ok")


def test_process_whose_store_refuses_writes_is_live_and_not_ready():
    process = Process()

    beat(process.channel, well(), refusal="READONLY")

    assert process.condition() == (True, False, "READONLY")


def test_process_that_is_about_to_drain_is_live_and_not_ready():
    process = Process()
    beat(process.channel, well())
    before = process.condition()

    process.health.stopping()

    assert before == (True, True, "ok")
    assert process.condition() == (True, False, "draining")


def test_processes_have_started_when_each_has_joined_once_and_stay_so():
    health = ProcessHealth(2, FakeClock(), POLICY)
    channels = {}
    for slot in (0, 1):
        ours, channels[slot] = heartbeat_sockets()
        SOCKETS.extend((ours, channels[slot]))
        health.began(slot, ours)
    page = ProbeServer(health, version="0").page
    found = [page("/startupz").status]

    beat(channels[0], well())
    found.append(page("/startupz").status)
    beat(channels[1], well())
    found.append(page("/startupz").status)
    health.ended(1)
    found.append(page("/startupz").status)

    assert found == [503, 503, 200, 200]
    assert page("/readyz").status == HTTPStatus.SERVICE_UNAVAILABLE


async def test_supervisor_that_stops_is_not_ready_before_a_child_is_told():
    world = World()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.supervisor.run())
        [child] = await world.until(1)
        child.beat(well())
        seen = []
        child.terminate = lambda: seen.extend(world.health.conditions())

        world.supervisor.stop()

        assert [(one.is_ready, one.detail) for one in seen] == [(False, "draining")]
        child.end(0)


@pytest.mark.parametrize("joined", [True, False])
def test_ended_process_keeps_its_counts_and_tells_whether_it_had_joined(joined):
    process = Process()
    beat(process.channel, well(is_ready=joined), jobs=3)

    had_joined = process.health.ended(0)

    assert had_joined is joined
    assert process.condition() == (False, False, "starts again soon")
    attempts = process.health.metrics()["shifter_attempts_total"]
    assert attempts == {("default", "NORMAL"): 3}


async def test_a_child_that_an_operator_drained_is_not_started_again():
    world = World(processes=2)
    run = asyncio.create_task(world.supervisor.run())
    first, second = await world.until(2)

    first.end(DRAINED_EXIT)
    async with asyncio.timeout(20):
        while len(world.health.conditions()) == 2:
            await asyncio.sleep(0)

    assert [one.slot for one in world.health.conditions()] == [1]
    assert not run.done()
    second.end(DRAINED_EXIT)
    assert await run == 0
    assert len(world.children) == 2
