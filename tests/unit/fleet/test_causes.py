"""Why circuits open: told to every process, and how long they stay open for it."""

from __future__ import annotations

import msgspec
import pytest

from shifter.adapters.memory.state import MemoryFleetStore
from shifter.fleet.calls import CUT, Caller, verdict_of
from shifter.fleet.changes import Change
from shifter.fleet.readings import read_fleet, show_fleet
from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import (
    DependencyReport,
    circuit_cell,
    circuit_text,
    read_circuit,
)
from shifter.fleet.view import look
from shifter.policy.failure_cause import FailureCause
from shifter.policy.protection.circuit.states import Closed, HalfOpen, Open
from shifter.policy.protection.dependency import Dependency
from shifter.protection import EvidencePolicy
from shifter.telemetry.metric import WorkerMetrics
from shifter.testing.clock import FakeClock

EVIDENCE = EvidencePolicy(consecutive_failures=3)
RULES = {ConnectionRefusedError: "20s", PermissionError: "10m"}


class Fleet:
    """Processes that share a store and a clock."""

    def __init__(self, *names, **options):
        self.clock = FakeClock()
        self.store = MemoryFleetStore(self.clock)
        self.calls = []

        def on_change(name, state, cause):
            self.calls.append((name, state, cause))

        options.setdefault("on_change", on_change)
        bank = Dependency("bank", evidence=EVIDENCE, **options)
        self.replicas = [
            FleetReplica([bank], self.clock, process=name, seed=1) for name in names
        ]

    async def sync(self, rounds=3):
        for _ in range(rounds):
            for replica in self.replicas:
                sent = replica.report()
                replica.learn(sent, await self.store.sync(sent.report))

    def fail(self, replica, *errors):
        caller = Caller(replica)
        for error in errors:
            call = caller.begin("bank")
            bank = replica.protections["bank"].dependency
            caller.end(call, verdict_of(error, bank))

    def states(self):
        return [one.protections["bank"].circuit.state for one in self.replicas]

    async def open_for(self, *errors):
        """The state in a process that has made no call."""
        for replica in self.replicas[:2]:
            self.fail(replica, None)  # a success: both are known to call
        await self.sync()
        for replica in self.replicas[:2]:
            self.fail(replica, *errors)
        await self.sync()
        return self.states()[2]


async def test_a_process_without_a_failure_learns_why_the_circuit_opened():
    fleet = Fleet("a", "b", "c")

    state = await fleet.open_for(*[OSError("\x1b[31mrefused")] * 2, RuntimeError("x"))

    assert isinstance(state, Open)
    assert state.cause == FailureCause("OSError", 4, r"\x1b[31mrefused")
    assert fleet.calls[-1] == ("bank", "open", state.cause)
    change = Change(fleet.replicas[2].protections["bank"].dependency, state, True)
    assert change.facts == {
        "dependency": "bank",
        "scope": "fleet",
        "generation": 1,
        "kind": "OSError",
        "count": 4,
        "error": r"\x1b[31mrefused",
    }


@pytest.mark.parametrize(
    ("errors", "least_s", "most_s"),
    [
        ([ConnectionRefusedError()] * 3, 10, 20),
        ([PermissionError()] * 3, 300, 600),
        ([OSError()] * 3, 2.5, 5),
        ([ConnectionRefusedError(), ConnectionRefusedError(), OSError()], 10, 20),
    ],
    ids=["refused", "forbidden", "no rule", "most failures"],
)
async def test_the_kind_of_most_failures_gives_the_cooldown_of_the_whole_fleet(
    errors, least_s, most_s
):
    fleet = Fleet("a", "b", "c", cooldown=RULES)
    before_ms = fleet.clock.epoch_ms()

    state = await fleet.open_for(*errors)

    assert least_s * 1_000 <= state.until_ms - before_ms <= most_s * 1_000
    assert {one.until_ms for one in fleet.states()} == {state.until_ms}


async def test_a_cooldown_that_another_process_reports_is_at_most_a_local_one():
    fleet = Fleet("a", "b", "c")
    breaker = fleet.replicas[0].protections["bank"].breaker
    await fleet.sync()

    breaker.shared.suspect(None, FailureCause("OSError", 9, "", 10**12))
    await fleet.sync()

    assert fleet.states()[0].until_ms - fleet.clock.epoch_ms() <= 5_000


async def test_a_caller_that_stopped_waiting_is_a_timeout():
    fleet = Fleet("a", cooldown={TimeoutError: "40s"})
    [replica] = fleet.replicas
    for _ in range(3):
        call = (caller := Caller(replica)).begin("bank")
        fleet.clock.advance(1)
        caller.end(call, CUT)

    state = replica.protections["bank"].breaker.own.state
    assert state.cause.kind == "TimeoutError"
    assert state.until_ms - replica.now_ms() >= 20_000


async def test_a_failed_probe_opens_the_circuit_for_its_own_kind():
    fleet = Fleet("a", cooldown=RULES)
    await fleet.sync()
    fleet.fail(fleet.replicas[0], *[OSError("first")] * 3)
    await fleet.sync()
    fleet.clock.advance(6)
    Caller(fleet.replicas[0]).begin("bank")  # asks for a probe
    await fleet.sync()

    fleet.fail(fleet.replicas[0], ConnectionRefusedError("then"))
    await fleet.sync()

    [state] = fleet.states()
    assert (state.cause.kind, state.cause.message) == ("ConnectionRefusedError", "then")
    assert state.until_ms - fleet.clock.epoch_ms() >= 19_000  # 20 s, doubled, halved


def test_ejections_are_counted_by_kind_and_handed_out_once():
    fleet, metrics = Fleet("a"), WorkerMetrics()
    protection = fleet.replicas[0].protections["bank"]
    for kind in ("OSError", "SlowCall", "OSError"):
        protection.endpoint_ejected(kind)

    for _ in range(2):
        show_fleet(metrics, read_fleet(fleet.replicas[0]))

    assert metrics.snapshot()["shifter_endpoint_ejections_total"] == {
        ("bank", "OSError"): 2,
        ("bank", "SlowCall"): 1,
    }


async def test_operators_see_why_a_circuit_is_open_and_why_it_is_suspected():
    fleet = Fleet("a", "b")
    await fleet.sync()
    fleet.fail(fleet.replicas[0], *[OSError("refused")] * 3)
    await fleet.sync(rounds=1)

    [row] = (await look(fleet.store, "cli")).circuits
    assert row.state == "closed"
    assert msgspec.to_builtins(row)["cause"] == {
        "kind": "OSError",
        "count": 3,
        "message": "refused",
    }


class OldCircuit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A circuit's cell as version 0.2 reads and writes it."""

    state: str
    generation: int
    openings: int = 0
    until_ms: int = 0
    probes: list[tuple[int, int]] = []
    started: int = 0
    successes: int = 0


class OldReport(msgspec.Struct, array_like=True, frozen=True):
    """A report on a dependency as version 0.2 reads it."""

    calls: int = 0
    failures: int = 0
    slow: int = 0
    in_a_row: int = 0
    held_back: tuple[int, int, int, int] = (0, 0, 0, 0)
    would_hold_back: tuple[int, int, int, int] = (0, 0, 0, 0)
    limit: int = 0
    inflight: int = 0
    budget: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)


CAUSE = FailureCause("OSError", 5, "refused", 2_000)


def test_processes_of_an_older_version_read_what_newer_ones_write():
    cell = msgspec.json.decode(circuit_text(Open(3, 2, 99, CAUSE)), type=OldCircuit)
    report = msgspec.msgpack.encode(
        DependencyReport(7, 5, cause=("OSError", 5, "refused", 2_000))
    )

    assert cell == OldCircuit("open", 3, 2, 99)
    assert msgspec.msgpack.decode(report, type=OldReport) == OldReport(7, 5)


async def test_a_state_that_an_older_version_writes_again_holds_without_its_cause():
    fleet = Fleet("a", "b", "c")
    state = await fleet.open_for(*[OSError("refused")] * 3)
    old = OldCircuit("open", state.generation, state.openings, state.until_ms)

    shared = fleet.replicas[2].protections["bank"].circuit
    shared.learn(msgspec.json.encode(old), fleet.clock.epoch_ms())

    assert shared.state == Open(state.generation, state.openings, state.until_ms)
    assert not shared.has_news  # nobody writes the cause again: no quarrel of versions


@pytest.mark.parametrize(
    "state",
    [Closed(4), Open(1, 1, 5), Open(1, 1, 5, CAUSE), HalfOpen(2, 1, cause=CAUSE)],
)
def test_a_state_is_read_as_it_was_written(state):
    assert read_circuit(circuit_text(state)) == state


@pytest.mark.parametrize(
    "cause", ['["x"]', '["x", -1, "", 0]', '"x"', f'["{"x" * 101}", 1, "", 0]', "7"]
)
def test_a_cause_that_nobody_writes_makes_the_cell_unreadable(cause):
    text = f'{{"state": "open", "generation": 1, "openings": 1, "cause": {cause}}}'

    assert read_circuit(text.encode()) is None
    assert circuit_cell("bank")


@pytest.mark.parametrize(
    ("callback", "expected"),
    [
        (lambda calls: lambda name, state: calls.append((name, state)), 2),
        (lambda calls: lambda *all_of_it: calls.append(all_of_it), 2),
        (lambda calls: lambda name, state, log=None: calls.append((name, state)), 2),
        (
            lambda calls: lambda name, state, cause: calls.append((name, state, cause)),
            3,
        ),
    ],
    ids=["two", "any", "a default value", "three"],
)
async def test_a_callback_of_three_arguments_gets_the_cause(callback, expected):
    calls = []
    fleet = Fleet("a", "b", "c", on_change=callback(calls))

    await fleet.open_for(*[OSError("refused")] * 3)

    assert calls
    assert {len(call) for call in calls} == {expected}
