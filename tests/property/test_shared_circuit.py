"""A circuit that many processes share, under any order of calls, syncs and losses."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from shifter.adapters.memory.state import MemoryFleetStore
from shifter.errors import StoreUnavailableError
from shifter.fleet.circuit import SharedCircuit
from shifter.fleet.guards import CallPermit
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import OverrideCell, circuit_text
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import (
    CallEnd,
    CallOutcome,
    EvidencePolicy,
)
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.states import (
    Closed,
    HalfOpen,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.fleet_table import FleetTable
from shifter.testing.clock import FakeClock

PROBES, HOUR_MS = 2, 3_600_000
MAILER = Dependency(
    "mailer",
    circuit=CircuitPolicy(
        cooldown_ms=1_000,
        max_cooldown_ms=4_000,
        probes=PROBES,
        probe_successes=2,
        probe_lease_ms=5_000,
        max_retry_after_ms=4_000,
        ramp_ms=0,
    ),
    evidence=EvidencePolicy(consecutive_failures=3),
)
PROCESSES = 3


class World:
    """Some processes of one fleet, a store that may fail, and a dependency."""

    def __init__(self):
        self.clock, self.table, self.is_up = FakeClock(), FleetTable(), False
        self.replicas = [self.born(n) for n in range(PROCESSES)]
        self.calls = []

    def born(self, number):
        self.store = MemoryFleetStore(self.clock, self.table)
        return FleetReplica([MAILER], self.clock, process=f"p{number}", seed=number)

    def sync(self, number, *, answer_lost=False):
        replica, told = self.replicas[number], self.replicas[number].report()
        try:
            view = asyncio.run(self.store.sync(told.report))
            if answer_lost:
                raise StoreUnavailableError("memory", "sync", "late")
        except StoreUnavailableError:
            replica.failed(told)
        else:
            replica.learn(told, view)

    def begin(self, number):
        replica = self.replicas[number]
        answer = replica.protections["mailer"].admit(
            Priority.NORMAL, is_extra=False, now_ms=self.now_ms()
        )
        if isinstance(answer, CallPermit):
            self.calls.append((replica, answer, self.is_up, self.now_ms()))
        return isinstance(answer, CallPermit)

    def end(self):
        if self.calls:
            replica, permit, ok, _ = self.calls.pop(0)
            outcome = CallOutcome.SUCCESS if ok else CallOutcome.FAILURE
            end = CallEnd(outcome, 1)
            replica.protections["mailer"].ended(permit, end, now_ms=self.now_ms())

    def happen(self, what, number):
        if what in ("sync", "lose answer"):
            self.sync(number, answer_lost=what != "sync")
        elif what == "begin":
            self.begin(number)
        elif what == "end":
            self.end()
        else:
            self.strike(what, number)

    def strike(self, what, number):
        if what == "reborn":
            self.replicas[number] = self.born(number)
        elif what == "wait":
            self.clock.advance(number / 1_000)
        elif what in ("forget", "jump"):
            if not self.calls and what == "forget":
                self.table.__init__()
            elif not self.calls:
                self.clock.shift_wall(number)
        else:
            self.is_up = what == "heal"

    def now_ms(self):
        return int(self.clock.monotonic() * 1_000)

    def states(self):
        return [
            replica.protections["mailer"].circuit.state for replica in self.replicas
        ]

    def check(self):
        """C11, as far as one moment shows it."""
        lease_ms = MAILER.circuit.probe_lease_ms
        probes = [
            permit.shared.generation
            for _, permit, _, at_ms in self.calls
            if permit.shared.probe and self.now_ms() - at_ms < lease_ms
        ]
        for generation in set(probes):
            assert probes.count(generation) <= PROBES
        for state in self.states():
            assert isinstance(state, Closed | Open | HalfOpen)


numbers = st.integers(0, PROCESSES - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("sync"), numbers),
        st.tuples(st.just("sync"), numbers),
        st.tuples(st.just("lose answer"), numbers),
        st.tuples(st.just("begin"), numbers),
        st.tuples(st.just("begin"), numbers),
        st.tuples(st.just("end"), numbers),
        st.tuples(st.just("reborn"), numbers),
        st.tuples(st.just("wait"), st.integers(1, 1_500)),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("jump"), st.sampled_from([-HOUR_MS, HOUR_MS])),
        st.tuples(st.just("heal"), st.just(0)),
        st.tuples(st.just("break"), st.just(0)),
    ),
    max_size=120,
)


@given(steps)
@settings(max_examples=300, deadline=None)
def test_probes_are_few_and_the_fleet_always_comes_back(steps):
    world = World()
    for what, number in steps:
        world.happen(what, number)
        world.check()

    # Whatever happened: once the dependency is well, everybody calls it again.
    world.is_up = True
    while world.calls:
        world.end()
    passed = [False]
    for _ in range(200):
        world.clock.advance(0.2)
        passed = []
        for number in range(PROCESSES):
            passed.append(world.begin(number))
            world.end()
            world.sync(number)
        if all(passed):
            break
    assert all(passed)
    assert all(isinstance(state, Closed) for state in world.states())


def test_one_bad_process_opens_it_for_itself_alone():
    world = World()
    world.is_up = True
    for _ in range(20):
        for number in (1, 2):
            world.begin(number)
            world.end()
            world.sync(number)
        world.clock.advance(0.05)
    world.is_up = False
    for _ in range(3):
        world.begin(0)
        world.end()
    for _ in range(3):
        for number in range(PROCESSES):
            world.sync(number)

    assert all(isinstance(state, Closed) for state in world.states())
    assert [world.begin(number) for number in range(PROCESSES)] == [False, True, True]


def opened():
    """A world in which two of three saw enough, and everybody heard of it."""
    world = World()
    for number in (0, 1):
        for _ in range(3):
            world.begin(number)
            world.end()
    for _ in range(2):
        for number in range(PROCESSES):
            world.sync(number)
    return world


def test_a_quorum_opens_it_for_all_and_a_new_process_does_not_close_it():
    world = opened()
    assert all(isinstance(state, Open) for state in world.states())

    world.replicas[2] = world.born(2)
    world.sync(2)
    world.sync(0)

    assert all(isinstance(state, Open) for state in world.states())
    assert not world.begin(2)


def test_a_clock_of_the_store_that_goes_back_opens_no_circuit_longer():
    world = opened()
    open_ms = world.states()[0].until_ms - world.clock.epoch_ms()

    world.clock.shift_wall(-HOUR_MS)
    for number in range(PROCESSES):
        world.sync(number)

    left_ms = [state.until_ms - world.clock.epoch_ms() for state in world.states()]
    assert left_ms == [open_ms] * PROCESSES


@pytest.mark.parametrize("by_ms", [-HOUR_MS, HOUR_MS])
def test_a_clock_that_jumps_ends_no_ramp(by_ms):
    circuit = SharedCircuit("mailer", CircuitPolicy(ramp_ms=1_000))
    circuit.peak_per_ms = 1.0
    for state in (Open(1, 1, 0), Closed(2)):
        circuit.learn(circuit_text(state), 0)
    circuit.clock_jumped(500 + by_ms, by_ms)

    let_in = [circuit.admit(by_ms + 500) for _ in range(1_000)]

    assert 0 < sum(isinstance(one, Permit) for one in let_in) < 100


def test_a_refusal_has_the_time_for_which_the_circuit_is_really_shut():
    """However soon a worker looks again, a client outside is not sent in vain."""
    world = World()
    protection = world.replicas[0].protections["mailer"]
    protection.circuit.by_hand = OverrideCell("open", "ann", "they asked", 300_000)

    assert protection.shut_for_ms(0) == 300_000
    assert protection.admit(Priority.HIGH, is_extra=False, now_ms=0).wait_ms <= 1_501


def test_a_store_that_lost_its_data_gets_the_state_of_the_fleet_again():
    world = opened()
    world.table.__init__()
    for _ in range(2):
        for number in range(PROCESSES):
            world.sync(number)
    world.replicas[2] = world.born(2)
    world.sync(2)

    assert all(isinstance(state, Open) for state in world.states())
