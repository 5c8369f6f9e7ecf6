"""A circuit never opened for a dependency that accepts calls and never answers.

A call that was cut from outside (by the job's timeout, an outer ``asyncio.timeout``, a
deadline, a cancelled request, or a thread that nobody can stop) said nothing about the
dependency, so every call went into it. A call that was cut after it ran longer than is
usual, or for the timeout it was given, is a failure; an earlier cut says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import threading
import time

import pytest

from shifter import Shifter
from shifter.errors import CircuitOpenError, DeadlineExceededError, JobCancelledError
from shifter.fleet.replica import FleetReplica
from shifter.jobs.request_scope import within
from shifter.policy.protection.circuit import local
from shifter.policy.protection.circuit.local import USUAL_FLOOR_MS
from shifter.policy.protection.circuit.states import Closed, HalfOpen, Open
from shifter.protection import CircuitPolicy, EvidencePolicy
from shifter.testing import TestApp
from shifter.work.drain import Drain
from tests.integration.drain_world import World, submit

LASTING = CircuitPolicy(cooldown_ms=60_000)
MOST_CALLS = 5  # as many as `consecutive_failures`, where one call is made at a time
CALLS = 20
CUT_S = 0.1
COUNTED_S = 2 * USUAL_FLOOR_MS / 1_000
"""A call that ran so long before it was cut is counted, to whole milliseconds.

On a loaded machine a call may begin so late that its cut says nothing about the
dependency. Such a call is let through like any other, and counts for nothing.
"""


class Hung:
    """A server that accepts, and never answers until it is told to.

    Attributes:
        began_at: When each call was made.
        counted: Calls that certainly ran long enough to count when they were cut.
    """

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listening.getsockname()[1]
        self.began_at, self.counted = [], 0
        self.answers, self.open = False, []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self.listening.accept()
                if self.answers:
                    caller.sendall(b"!")
                self.open.append(caller)

    @property
    def calls(self):
        return len(self.began_at)

    @contextlib.contextmanager
    def cutting(self, after_s=CUT_S):
        """Around what makes at most one call and is cut so long after it began."""
        made, asked_at = self.calls, time.monotonic()
        yield
        if self.calls > made:
            self.counted += asked_at + after_s - self.began_at[-1] >= COUNTED_S

    async def call(self):
        self.began_at.append(time.monotonic())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await reader.readexactly(1)
        finally:
            writer.close()

    def call_and_block(self):
        self.began_at.append(time.monotonic())
        with socket.create_connection(("127.0.0.1", self.port)) as caller:
            caller.recv(1)

    def close(self):
        with contextlib.suppress(OSError):  # closed before
            self.listening.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listening.close()
        for caller in self.open:
            caller.close()


@pytest.fixture
def hung():
    server = Hung()
    yield server
    server.close()


# In a service: a block, cut from outside.


async def cut_by_timeout(block):
    async with asyncio.timeout(CUT_S):
        await block()


async def cut_by_wait_for(block):
    await asyncio.wait_for(block(), CUT_S)


async def cut_by_cancellation(block):
    task = asyncio.create_task(block())
    await asyncio.sleep(CUT_S)
    task.cancel()
    await task


async def cut_by_a_sibling(block):
    async with asyncio.TaskGroup() as group:
        group.create_task(block())
        await asyncio.sleep(CUT_S)
        raise TimeoutError


CUTS = [cut_by_timeout, cut_by_wait_for, cut_by_cancellation, cut_by_a_sibling]


@pytest.mark.parametrize("cut", CUTS)
async def test_a_block_of_a_service_that_is_cut_opens_the_circuit(hung, cut):
    world = World()
    bank = world.app.dependency("bank", circuit=LASTING)

    async def block():
        async with bank:
            await hung.call()

    async def call():
        with hung.cutting():
            await cut(block)

    with world.app.served_by(world.publisher, world.claims):
        refused = await refusals(call)
        counted = opened_for(world.app._guard.replica)

    assert hung.calls + refused == CALLS
    assert counted == MOST_CALLS
    assert hung.counted <= MOST_CALLS


def opened_for(replica: FleetReplica) -> int:
    """How many calls the circuit had counted when it opened."""
    return replica.protections["bank"].breaker.own._opened_for.calls


async def refusals(call):
    """How many of some calls, one after the other, the circuit refused."""
    refused = 0
    for _ in range(CALLS):
        try:
            await call()
        except* CircuitOpenError:
            refused += 1
        except* (TimeoutError, asyncio.CancelledError, DeadlineExceededError):
            pass
    return refused


@pytest.mark.parametrize("is_thread", [False, True], ids=["loop", "thread"])
@pytest.mark.parametrize("uses", [False, True], ids=["block", "uses"])
async def test_submit_that_is_cut_opens_the_circuit(hung, uses, is_thread):
    world = World()
    bank = world.app.dependency("bank", circuit=LASTING)

    async def in_loop() -> None:
        async with bank:
            await hung.call()

    def in_thread() -> None:
        with bank:
            hung.call_and_block()

    function = in_thread if is_thread else in_loop
    options = {"uses": bank} if uses else {}
    job = world.app.job(name="pay", timeout="100ms", **options)(function)
    with world.app.served_by(world.publisher, world.claims):
        for _ in range(CALLS):
            with hung.cutting(), contextlib.suppress(TimeoutError):
                # Deferred once the circuit is open: nobody calls.
                await job.submit()
        assert isinstance(own_state(world.app), Open)
        assert opened_for(world.app._guard.replica) == MOST_CALLS
    hung.close()

    assert hung.counted <= MOST_CALLS
    assert hung.calls < CALLS


async def test_submit_that_its_caller_s_deadline_cuts_opens_the_circuit(hung):
    world = World()
    bank = world.app.dependency("bank", circuit=LASTING)

    @world.app.job(uses=bank, timeout="1m")
    async def pay() -> None:
        await hung.call()

    with world.app.served_by(world.publisher, world.claims):
        for _ in range(CALLS):
            soon = world.clock.epoch_ms() + int(CUT_S * 1_000)
            with hung.cutting(), within(deadline_ms=soon):
                await pay.submit()
        assert opened_for(world.app._guard.replica) == MOST_CALLS

    assert hung.counted <= MOST_CALLS
    assert hung.calls < CALLS


def takes_probes(app):
    replica = app._guard.replica
    return replica.protections["bank"].shut_for_ms(replica.now_ms()) is None


def own_state(app):
    return app._guard.replica.protections["bank"].breaker.own.state


# In a worker: one call at a time.


async def loop_block(bank, hung):
    async with bank:
        await hung.call()


async def loop_block_with_its_own_patience(bank, hung):
    async with asyncio.timeout(CUT_S), bank:
        await hung.call()


def thread_block(bank, hung):
    with bank:
        hung.call_and_block()


async def loop_call(bank, hung):
    await hung.call()


def thread_call(bank, hung):
    hung.call_and_block()


PLACES = [
    pytest.param(loop_block, {"timeout": "100ms"}, id="a block, the timeout"),
    pytest.param(loop_block, {"deadline": "200ms"}, id="a block, a nearer deadline"),
    pytest.param(
        loop_block_with_its_own_patience, {"timeout": "1m"}, id="a block, its patience"
    ),
    pytest.param(
        thread_block, {"timeout": "100ms"}, id="a thread's block, the timeout"
    ),
    pytest.param(
        thread_block, {"deadline": "200ms"}, id="a thread's block, a deadline"
    ),
    pytest.param(loop_call, {"uses": True, "timeout": "100ms"}, id="uses, the timeout"),
    pytest.param(loop_call, {"uses": True, "deadline": "200ms"}, id="uses, a deadline"),
    pytest.param(
        thread_call,
        {"uses": True, "deadline": "200ms"},
        id="a thread's uses, a deadline",
    ),
]


@pytest.mark.parametrize(("handler", "options"), PLACES)
async def test_an_attempt_that_is_cut_opens_the_circuit(hung, handler, options):
    world = World()
    bank = world.app.dependency("bank")
    if options.get("uses"):
        options = {**options, "uses": bank}
    if inspect.iscoroutinefunction(handler):

        async def pay() -> None:
            await handler(bank, hung)
    else:

        def pay() -> None:
            handler(bank, hung)

    job = world.app.job(attempts=1, **options)(pay)
    await world.open()
    # A thread may keep its slot: there is one for each.
    async with world.working(concurrency=CALLS) as drain:
        for _ in range(CALLS):
            with hung.cutting():
                await one_call(world, drain, job)
            if is_open(drain):
                break
        assert opened_for(drain.replica) == MOST_CALLS
        hung.close()

    assert hung.counted <= MOST_CALLS


async def one_call(world: World, drain: Drain, job) -> None:
    """Until the job has ended, its call was counted, or it was cut uncounted."""
    counted, asked_at = seen(drain.replica), time.monotonic()
    job_id = await submit(job)
    while not is_open(drain) and seen(drain.replica) == counted:
        state = await world.state(job_id)
        if (state is not None and state.is_terminal) or time.monotonic() > asked_at + 3:
            return
        await asyncio.sleep(0.001)


def seen(replica: FleetReplica) -> int:
    now_ms = int(replica.clock.monotonic() * 1_000)
    return replica.protections["bank"].breaker.own.tally(now_ms).calls


def is_open(drain: Drain) -> bool:
    return isinstance(drain.replica.protections["bank"].breaker.own.state, Open)


async def test_handlers_of_a_test_app_that_hang_open_the_circuit():
    app = Shifter("shop")
    bank = app.dependency("bank")
    calls = []

    @app.job(timeout="10s", attempts=1)
    async def pay(number: int) -> None:
        async with bank:
            calls.append(number)
            await asyncio.sleep(3_600)

    async with TestApp(app) as test:
        for number in range(CALLS):
            await pay.defer(number)
            await test.drain(advance="20s")
            if number > MOST_CALLS:
                break

    # The fifth opened it; one more is the first probe.
    assert len(calls) <= MOST_CALLS + 2


# Half open.


@pytest.mark.parametrize("cut", CUTS)
async def test_a_probe_that_hangs_has_failed_and_frees_its_permit(hung, cut):
    world = World()
    bank = world.app.dependency(
        "bank", circuit=CircuitPolicy(cooldown_ms=20, max_cooldown_ms=20)
    )

    async def block():
        async with bank:
            await hung.call()

    with world.app.served_by(world.publisher, world.claims):
        await refusals(lambda: cut(block))
        openings, made = own_state(world.app).openings, hung.calls
        while own_state(world.app).openings == openings:
            await world.until(lambda: takes_probes(world.app))
            with (
                hung.cutting(),
                contextlib.suppress(
                    BaseExceptionGroup, asyncio.CancelledError, TimeoutError
                ),
            ):
                await cut(block)
            assert (made := made + 1) == hung.calls
        assert isinstance(own_state(world.app), Open)
        await world.until(lambda: takes_probes(world.app))
        hung.answers = True
        await block()

        assert isinstance(own_state(world.app), Closed)


async def test_a_probe_whose_caller_leaves_early_frees_its_permit(hung, monkeypatch):
    # The caller leaves at once; a slow machine must not make that look late.
    monkeypatch.setattr(local, "USUAL_FLOOR_MS", 60_000)
    world = World()
    bank = world.app.dependency("bank", circuit=CircuitPolicy(cooldown_ms=20))

    async def block():
        async with bank:
            await hung.call()

    with world.app.served_by(world.publisher, world.claims):
        for _ in range(MOST_CALLS):
            with contextlib.suppress(ConnectionError):
                async with bank:
                    raise ConnectionError
        assert isinstance(own_state(world.app), Open)
        await world.until(lambda: takes_probes(world.app))
        task = asyncio.create_task(block())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert own_state(world.app).probes == ()
        assert isinstance(own_state(world.app), HalfOpen)


# Who leaves early says nothing.


@pytest.mark.parametrize("cut", CUTS)
async def test_callers_that_leave_before_an_answer_was_due_open_nothing(cut):
    world = World()
    bank = world.app.dependency("bank")

    async def block(took_s):
        async with bank:
            await asyncio.sleep(took_s)

    with world.app.served_by(world.publisher, world.claims):
        for _ in range(5):
            await block(0.4)
        refused = await refusals(lambda: cut(lambda: block(60)))
        state = own_state(world.app)

    assert (refused, state) == (0, Closed())


async def test_a_call_with_a_deadline_nearer_than_is_usual_opens_nothing():
    world = World()
    bank = world.app.dependency("bank")

    @world.app.job(uses=bank)
    async def pay(took_s: float) -> None:
        await asyncio.sleep(took_s)

    with world.app.served_by(world.publisher, world.claims):
        for _ in range(5):
            await pay.submit(0.4)
        for _ in range(CALLS):
            with within(deadline_ms=world.clock.epoch_ms() + 40):
                await pay.submit(60)
        state = own_state(world.app)

    assert state == Closed()


async def test_a_job_that_is_cancelled_is_not_counted():
    world = World()
    bank = world.app.dependency("bank", evidence=EvidencePolicy(consecutive_failures=1))
    with world.app.served_by(world.publisher, world.claims):
        with pytest.raises(JobCancelledError):
            async with bank:
                await asyncio.sleep(CUT_S)
                raise JobCancelledError("1")

        assert own_state(world.app) == Closed()


async def test_a_block_begun_when_its_handler_was_nearly_over_is_not_counted():
    """It had no time to be answered; the handler had used it up."""
    world = World()
    bank = world.app.dependency("bank", evidence=EvidencePolicy(consecutive_failures=1))

    @world.app.job(timeout="1200ms")
    async def pay(before_s: float, took_s: float) -> None:
        await asyncio.sleep(before_s)
        async with bank:
            await asyncio.sleep(took_s)

    with world.app.served_by(world.publisher, world.claims):
        for _ in range(3):
            await pay.submit(0, 0.6)
        with pytest.raises(TimeoutError):
            await pay.submit(1.1, 60)

        assert own_state(world.app) == Closed()


def test_a_call_in_hand_is_counted_once_by_its_end_and_its_handler_s():
    """The thread's own end comes later, when nobody waits for it."""
    world = World()
    bank = world.app.dependency("bank")
    left, ended = threading.Event(), threading.Event()

    def pay() -> None:
        try:
            with bank:
                left.wait(30)
        finally:
            ended.set()

    job = world.app.job(timeout="500ms")(pay)

    async def submitted():
        with contextlib.suppress(TimeoutError):
            await job.submit()

    with world.app.served_by(world.publisher, world.claims):
        asyncio.run(submitted())
        replica = world.app._guard.replica
        counted = seen(replica)
        left.set()
        assert ended.wait(30)
        assert seen(replica) == counted == 1
