"""A handler in a process of its own called dependencies in nobody's name.

Its blocks were ordinary calls at NORMAL, also in a retry (which then earned retries
instead of paying for one) and for the dependency that its job ``uses=`` already; and
what it was killed for was lost with it. It calls in the name of its job, and reports
calls that begin and end, so that its worker counts those that were cut.
"""

from __future__ import annotations

import multiprocessing
import threading
from itertools import count

import msgspec

from shifter import Context
from shifter.fleet.calls import Caller, TimeLimit, verdict_of
from shifter.fleet.replica import FleetReplica
from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.states import Closed, HalfOpen, Open
from shifter.policy.protection.dependency import Dependency
from shifter.protection import CircuitPolicy, EvidencePolicy
from shifter.testing.clock import FakeClock
from shifter.work.isolated import ChildCalls
from shifter.work.isolated_child import (
    CallReport,
    ChildChannel,
    ContextFacts,
    IsolatedCall,
    IsolatedReady,
    IsolatedReply,
    serve_calls,
)
from tests.integration.drain_world import World

BANK = Dependency(
    "bank",
    circuit=CircuitPolicy(cooldown_ms=1_000),
    evidence=EvidencePolicy(consecutive_failures=3),
)


class Pair:
    """A worker and a child of it, each with what it knows of the dependency."""

    def __init__(self):
        self.clock = FakeClock()
        self.ours, theirs = multiprocessing.Pipe()
        self.line = ChildChannel(theirs)
        names = (f"p{n}" for n in count())
        self.worker, self.child = (
            FleetReplica([BANK], self.clock, process=name)
            for name, _ in zip(names, range(2), strict=False)
        )

    def attempt(self, *, given_ms=60_000):
        """A new attempt: the worker's caller, its reader, and the child's caller."""
        now_ms = int(self.clock.monotonic() * 1_000)
        caller = Caller(self.worker, limit=TimeLimit(now_ms, now_ms + given_ms))
        return caller, ChildCalls(caller), Caller(self.child, watch=self.line)

    def reported(self, calls):
        while self.ours.poll():
            report = msgspec.msgpack.decode(self.ours.recv_bytes(), type=CallReport)
            calls.take(report)

    def own_state(self):
        return self.worker.protections["bank"].breaker.own.state


def test_calls_that_a_child_was_killed_in_open_the_circuit_of_its_worker():
    pair = Pair()
    for _ in range(3):
        caller, calls, childs = pair.attempt()
        childs.begin("bank")
        pair.reported(calls)
        pair.clock.advance(1.0)
        caller.cut()

    assert isinstance(pair.own_state(), Open)


def test_calls_that_a_child_ended_are_counted_by_the_child_alone():
    pair = Pair()
    for error in (None, OSError(), OSError(), OSError()):
        caller, calls, childs = pair.attempt()
        begun = childs.begin("bank")
        pair.clock.advance(1.0)
        childs.end(begun, verdict_of(error, BANK))
        pair.reported(calls)
        caller.cut()

    now_ms = int(pair.clock.monotonic() * 1_000)
    assert pair.own_state() == Closed()
    assert pair.worker.protections["bank"].breaker.own.tally(now_ms).calls == 0
    assert isinstance(pair.child.protections["bank"].breaker.own.state, Open)


def test_what_is_usual_in_a_child_is_known_to_its_worker():
    pair = Pair()
    for _ in range(5):
        _, calls, childs = pair.attempt()
        begun = childs.begin("bank")
        pair.reported(calls)
        pair.clock.advance(1.0)
        childs.end(begun, verdict_of(None, BANK))
        pair.reported(calls)
    for _ in range(5):
        caller, calls, childs = pair.attempt()
        childs.begin("bank")
        pair.reported(calls)
        pair.clock.advance(0.5)
        caller.cut()

    assert pair.own_state() == Closed()


def test_a_probe_that_a_child_was_killed_in_has_failed():
    pair = Pair()
    shared = pair.worker.protections["bank"].circuit
    shared.state = HalfOpen(2, 1, probes=((1, 60_000),), started=1)
    caller, calls, _ = pair.attempt()
    calls.take(CallReport(1, "bank", generation=2, probe=1))
    pair.clock.advance(1.0)
    caller.cut()

    assert shared.is_urgent
    assert [end.outcome.value for end in shared._ended] == ["failure"]


def run_in_child(world, job, **facts):
    """Run a job as a child process would, in a thread; returns its reply."""
    ours, theirs = multiprocessing.Pipe()
    far = 4 * 10**12
    call = IsolatedCall(
        job=job,
        content_type="application/json",
        payload=b"{}",
        context=ContextFacts("1", job, 2, 1, far, None, "1", None, Quality.FULL),
        deadline_ms=None,
        is_cancelled=False,
        trace=[],
        **facts,
    )
    ours.send_bytes(msgspec.msgpack.encode(call))
    with world.app.served_by(world.publisher, world.claims):
        child = threading.Thread(
            target=serve_calls, args=(theirs, world.app.jobs, world.clock)
        )
        child.start()
        msgspec.msgpack.decode(ours.recv_bytes(), type=IsolatedReady)
        reply = msgspec.msgpack.decode(ours.recv_bytes(), type=IsolatedReply)
        ours.close()
        child.join()
    return reply


def test_a_child_calls_in_the_name_of_its_job():
    world, seen = World(), []
    bank = world.app.dependency("bank")

    @world.app.job(uses=bank, isolate="process")
    def pay() -> None:
        seen.append(world.app._caller())

    reply = run_in_child(
        world, "pay", priority=Priority.HIGH, is_extra=True, holds="bank"
    )

    [caller] = seen
    assert reply == IsolatedReply()
    assert (caller.priority, caller.is_extra) == (Priority.HIGH, True)
    assert caller.begin("bank") is None


def test_a_child_has_an_endpoint_of_its_own_choice():
    world, seen = World(), []
    bank = world.app.dependency("bank", endpoints=["a:1"])

    @world.app.job(uses=bank, isolate="process")
    def pay(ctx: Context) -> None:
        seen.append(ctx.endpoint.url)
        seen.append(bank.run_sync(lambda endpoint: endpoint.url))

    reply = run_in_child(
        world, "pay", priority=Priority.NORMAL, is_extra=False, holds="bank"
    )

    assert reply == IsolatedReply()
    assert seen == ["http://a:1"] * 2
