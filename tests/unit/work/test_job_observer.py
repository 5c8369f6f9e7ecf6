"""What a worker's metrics show of circuits."""

from __future__ import annotations

from shifter.fleet.changes import Change
from shifter.policy.protection.circuit.states import Closed, Open
from shifter.policy.protection.dependency import Dependency
from shifter.telemetry import WorkerMetrics
from shifter.testing.clock import FakeClock
from shifter.work.job_observer import JobObserver


def test_a_change_of_the_fleets_circuit_closes_that_of_the_process():
    """As `Breaker.follow` does; else the gauge would show it open for ever."""
    bank = Dependency("bank")
    metrics = WorkerMetrics()
    observer = JobObserver(metrics, FakeClock(), worker="w1")
    opened = Open(generation=1, openings=1, until_ms=1_000)
    states = metrics.circuit_state

    observer.circuit_changed(Change(bank, opened, is_fleet=False))
    assert states.of("bank", "process", "open").read() == 1
    observer.circuit_changed(Change(bank, opened, is_fleet=True))

    assert states.of("bank", "process", "open").read() == 0
    assert states.of("bank", "process", "closed").read() == 1
    assert states.of("bank", "fleet", "open").read() == 1

    observer.circuit_changed(Change(bank, Closed(2), is_fleet=True))
    assert states.of("bank", "fleet", "open").read() == 0
    # A change of the fleet's circuit is one change.
    changes = metrics.snapshot()["shifter_circuit_changes_total"]
    assert sum(changes.values()) == 3
