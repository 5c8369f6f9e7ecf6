"""Calls on behalf of a job or a request, from the permit to the end."""

from __future__ import annotations

import pytest

from shifter import ConfigError, Discard, Priority, Retry, Throttled
from shifter.errors import CircuitOpenError, DeadlineExceededError
from shifter.fleet.calls import (
    CUT,
    FAILURE,
    IGNORED,
    SUCCESS,
    ActiveCall,
    Caller,
    CallVerdict,
    TimeLimit,
    verdict_of,
)
from shifter.fleet.protection import Rejected
from shifter.fleet.replica import FleetReplica
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.circuit.states import Open
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.limit import LimitMode
from shifter.protection import EvidencePolicy, LimitPolicy
from shifter.testing.clock import FakeClock

BANK = Dependency(
    "bank",
    evidence=EvidencePolicy(min_calls=2),
    limit=LimitPolicy(mode=LimitMode.FIXED, initial=1),
)


class World:
    """A process that calls the bank."""

    def __init__(self):
        self.clock = FakeClock()
        self.replica = FleetReplica([BANK], self.clock, process="p1", seed=1)
        self.bank = self.replica.protections["bank"]
        self.refused = []
        self.urged = 0
        self.replica.urgent = self._urged

    def caller(self, **options):
        return Caller(
            self.replica,
            Priority.CRITICAL,
            refused=lambda dependency, by: self.refused.append((dependency.name, by)),
            **options,
        )

    def limit(self, timeout_ms):
        now_ms = self.replica.now_ms()
        return TimeLimit(now_ms, now_ms + timeout_ms)

    def _urged(self):
        self.urged += 1


def test_call_holds_its_place_in_the_limit_until_it_ends():
    world = World()
    caller = world.caller()

    call = caller.begin("bank")
    assert isinstance(call, ActiveCall)
    assert isinstance(caller.begin("bank"), Rejected)
    caller.end(call, SUCCESS)

    assert world.bank.limit.inflight == 0
    assert world.refused == [("bank", "limit")]
    assert caller.under_way == {}


@pytest.mark.parametrize(("name", "holds"), [("bank", "bank"), ("mailer", None)])
def test_no_permit_is_asked_for_a_held_or_an_undeclared_dependency(name, holds):
    world = World()

    assert world.caller(holds=holds).begin(name) is None
    assert world.bank.limit.inflight == 0


def test_second_end_of_a_call_counts_for_nothing():
    world = World()
    caller = world.caller()
    call = caller.begin("bank")

    caller.end(call, SUCCESS)
    caller.end(call, FAILURE)

    assert world.bank.limit.inflight == 0
    assert world.bank.breaker.own.tally(0).failures == 0


def test_release_returns_the_permit_and_leaves_no_evidence():
    world = World()
    caller = world.caller()
    call = caller.begin("bank")

    caller.release(call)

    assert world.bank.limit.inflight == 0
    assert world.bank.breaker.own.tally(0).calls == 0
    assert caller.under_way == {}


def test_failures_that_open_the_circuit_wake_the_sync():
    world = World()
    for _ in range(2):
        caller = world.caller()
        caller.end(caller.begin("bank"), FAILURE)

    assert isinstance(world.bank.breaker.own.state, Open)
    assert world.urged == 1


def test_cut_ends_every_call_under_way_by_its_duration():
    world = World()
    for _ in range(2):
        caller = world.caller(limit=world.limit(1_000))
        caller.begin("bank")
        world.clock.advance(1.0)
        caller.cut()

    assert world.bank.limit.inflight == 0
    assert world.bank.breaker.own.state.generation == 1


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, SUCCESS),
        (OSError("refused"), FAILURE),
        (ValueError("mine"), IGNORED),
        (Discard("no use"), IGNORED),
        (CircuitOpenError("mailer", 1.0), IGNORED),
        (DeadlineExceededError("id-1", 0.1), CUT),
        (KeyboardInterrupt(), CUT),
        (Throttled("2s"), CallVerdict(CallOutcome.THROTTLED, 2_000)),
        (Throttled("soon"), CallVerdict(CallOutcome.THROTTLED)),
        (ExceptionGroup("both", [Discard("x"), OSError("y")]), FAILURE),
    ],
)
def test_error_of_a_call_has_one_verdict(error, verdict):
    assert verdict_of(error, BANK)._replace(cause=None) == verdict


@pytest.mark.parametrize(
    ("cause", "verdict"), [(OSError("x"), FAILURE), (ValueError("y"), IGNORED)]
)
def test_retry_is_judged_by_its_cause(cause, verdict):
    error = Retry()
    error.__cause__ = cause

    assert verdict_of(error, BANK)._replace(cause=None) == verdict


def test_user_function_that_raises_leaves_the_error_a_failure():
    def broken(_):
        raise ConfigError("x", 1, "y")

    verdict = verdict_of(ValueError("z"), Dependency("bank", failures=broken))

    assert verdict.outcome is FAILURE.outcome


@pytest.mark.parametrize(("now_ms", "given_ms"), [(1_000, 2_000), (2_001, None)])
def test_call_that_begins_in_the_second_half_has_no_timeout(now_ms, given_ms):
    assert TimeLimit(1_000, 3_000).given_ms(now_ms) == given_ms
