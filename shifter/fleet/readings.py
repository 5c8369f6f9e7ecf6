"""What metrics show of the fleet: dependencies, quality, and the store's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shifter.fleet.replica import FleetReplica
from shifter.fleet.shared_state import state_word
from shifter.model.answer import Quality
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.telemetry import Metrics


class DependencyReading(NamedTuple):
    """What is read of one dependency.

    Attributes:
        name: The dependency.
        fleet: The state of the fleet's circuit, as a word.
        process: That of this process's own.
        ended: Calls that ended since the last reading.
        retries_left: Of the retry budget.
        limit: Calls at once; ``None`` without a limit.
        endpoints: How many there are, by state; empty without endpoints.
        ejected: Endpoints ejected since the last reading, by kind of failure.
    """

    name: str
    fleet: str
    process: str
    ended: dict[CallOutcome, int]
    retries_left: int
    limit: int | None
    endpoints: Mapping[str, int]
    ejected: Mapping[str, int]


class FleetReading(NamedTuple):
    """What is read of a replica.

    Attributes:
        dependencies: Those that are protected.
        quality: At which this process serves.
        skew_s: Seconds that this process's wall clock is ahead of the store's, below 0
            behind it; ``None`` before the store has answered.
    """

    dependencies: Sequence[DependencyReading]
    quality: Quality
    skew_s: float | None


def read_fleet(replica: FleetReplica) -> FleetReading:
    """Read a replica; calls that ended are handed out once. From any thread."""
    now_ms, found = replica.now_ms(), []
    endpoints = replica.endpoints.counts()
    for name, protection in replica.protections.items():
        # One lock per dependency: a call waits for one reading at most.
        with replica.lock:
            fleet, own = protection.circuit.state, protection.breaker.own.state
            limit = protection.limit
            reading = DependencyReading(
                name,
                state_word(fleet),
                state_word(own),
                protection.take_ended(),
                protection.retries.left(now_ms),
                None if limit is None else int(limit.state.limit),
                endpoints.get(name, {}),
                protection.take_ejected(),
            )
        found.append(reading)
    return FleetReading(found, replica.quality, replica.skew_s)


def show_fleet(metrics: Metrics, reading: FleetReading | None) -> None:
    """Set metrics to a reading; ``None`` where there is nothing to read."""
    for gauge in (
        metrics.circuit_state,
        metrics.budget_left,
        metrics.limit,
        metrics.endpoints,
        metrics.quality,
        metrics.clock_skew,
    ):
        gauge.clear()
    if reading is None:
        return
    metrics.quality.of(reading.quality.value).set(1)
    if reading.skew_s is not None:
        metrics.clock_skew.of().set(abs(reading.skew_s))
    for one in reading.dependencies:
        metrics.set_circuit(one.name, "fleet", one.fleet)
        metrics.set_circuit(one.name, "process", one.process)
        metrics.budget_left.of(one.name).set(one.retries_left)
        if one.limit is not None:
            metrics.limit.of(one.name).set(one.limit)
        for state, endpoints in one.endpoints.items():
            metrics.endpoints.of(one.name, state).set(endpoints)
        metrics.endpoints_ejected(one.name, one.ejected)
        for outcome, count in one.ended.items():
            metrics.calls.of(one.name, outcome.value).inc(count)
