"""What the processes of a fleet exchange through the store, as bytes.

*Cells* hold what the fleet agrees on: circuits, the quality, operators' overrides. A
*report* is what one process sends at each sync.

The store is not trusted: bytes that cannot be decoded, or that no value encodes to, are
ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from shifter.fleet.endpoint_cells import EndpointReports
from shifter.fleet.service_reports import ServiceReport
from shifter.model.answer import Quality
from shifter.model.fleet import MAX_CELL_BYTES
from shifter.policy.failure_cause import (
    MAX_KIND_CHARS,
    MAX_TEXT_CHARS,
    FailureCause,
)
from shifter.policy.protection.circuit.evidence import CallTally
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.states import (
    CircuitState,
    Closed,
    HalfOpen,
    Open,
    Probe,
)
from shifter.policy.protection.dependency import Protection
from shifter.wire.untrusted import Count, InstantMs

QUALITY: Final = "quality"
QUALITY_BY_HAND: Final = "hand/quality"
_CIRCUIT: Final = "circuit/"
_BY_HAND: Final = "hand/circuit/"

T = TypeVar("T")


def circuit_cell(dependency: str) -> str:
    """The cell of a circuit's state."""
    return _CIRCUIT + dependency


def by_hand_cell(dependency: str) -> str:
    """The cell of a circuit's override."""
    return _BY_HAND + dependency


def dependency_of(cell: str) -> str | None:
    """The dependency of a circuit's cell; ``None`` for other cells."""
    for prefix in (_CIRCUIT, _BY_HAND):
        if cell.startswith(prefix):
            return cell.removeprefix(prefix)
    return None


class OverrideCell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An operator's override.

    Attributes:
        to: ``open`` or ``closed``; of a quality its word; of an endpoint ``drained``;
            of a worker ``drain``, and of a cron job ``pause``.
        owner: Who set it.
        reason: Why it was set.
        until_ms: When it ends, excluded, by the store's clock.
    """

    to: Literal[
        "open",
        "closed",
        "FULL",
        "REDUCED",
        "MINIMAL",
        "drained",
        "drain",
        "pause",
    ]
    owner: str
    reason: str
    until_ms: InstantMs


Kind: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_KIND_CHARS)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
Cause: TypeAlias = tuple[Kind, Count, Text, Count]
"""A `FailureCause` of a whole dependency: its attributes in their order."""


class _Circuit(msgspec.Struct, frozen=True, omit_defaults=True):
    state: Literal["closed", "open", "half_open"]
    generation: Count
    openings: Count = 0
    until_ms: InstantMs = 0
    probes: list[tuple[Count, InstantMs]] = []
    started: Count = 0
    successes: Count = 0
    cause: Cause | None = None
    since_ms: InstantMs = 0


class QualityCell(msgspec.Struct, frozen=True, omit_defaults=True):
    """The quality by load, and since when it holds; 0 if that is not known."""

    quality: Quality
    since_ms: InstantMs = 0


def circuit_text(state: CircuitState) -> bytes:
    """Encode a circuit's state; equal states are equal bytes."""
    if isinstance(state, Closed):
        cell = _Circuit("closed", state.generation, since_ms=state.since_ms)
    elif isinstance(state, Open):
        cell = _Circuit(
            "open",
            state.generation,
            state.openings,
            state.until_ms,
            cause=cause_fields(state.cause),
            since_ms=state.since_ms,
        )
    else:
        cell = _Circuit(
            "half_open",
            state.generation,
            state.openings,
            0,
            [(probe.number, probe.until_ms) for probe in state.probes],
            state.started,
            state.successes,
            cause_fields(state.cause),
            state.since_ms,
        )
    return msgspec.json.encode(cell)


def read_circuit(text: bytes) -> CircuitState | None:
    """Decode a circuit's state; ``None`` if it cannot be read."""
    cell = read_cell(text, _Circuit)
    if cell is None:
        return None
    if cell.state == "closed":
        return Closed(cell.generation, cell.since_ms)
    if cell.openings < 1:
        return None
    cause = None if cell.cause is None else FailureCause(*cell.cause)
    if cell.state == "open":
        return Open(cell.generation, cell.openings, cell.until_ms, cause, cell.since_ms)
    probes = tuple(Probe(*probe) for probe in cell.probes)
    return HalfOpen(
        cell.generation,
        cell.openings,
        probes,
        cell.started,
        cell.successes,
        cause,
        cell.since_ms,
    )


def cause_fields(cause: FailureCause | None) -> Cause | None:
    """A cause as it is shared."""
    if cause is None:
        return None
    return cause.kind, cause.count, cause.message, cause.cooldown_ms


def bounded(
    policy: CircuitPolicy,
    state: CircuitState,
    now_ms: int,
    *,
    earlier_ms: int = 0,
    longest_ms: int = 0,
) -> CircuitState:
    """Clamp instants read from the store to the local policy.

    A store with a wrong clock must not block a dependency for longer than this process
    would.

    Args:
        policy: The local policy of the circuit.
        state: The state that was read.
        now_ms: The time, by the store's clock.
        earlier_ms: How far the instants are moved back first.
        longest_ms: The longest cooldown for a kind of failure; 0 for none.
    """
    if isinstance(state, Open):
        allowed_ms = (policy.max_cooldown_ms, policy.max_retry_after_ms, longest_ms)
        longest_ms = max(allowed_ms)
        until_ms = min(state.until_ms - earlier_ms, now_ms + longest_ms)
        return replace(state, until_ms=until_ms)
    if isinstance(state, HalfOpen):
        last_ms = now_ms + policy.probe_lease_ms
        probes = (
            Probe(n, min(until_ms - earlier_ms, last_ms))
            for n, until_ms in state.probes
        )
        return replace(state, probes=tuple(probes))
    return state


def state_word(state: CircuitState) -> str:
    """``closed``, ``open`` or ``half_open``."""
    if isinstance(state, Closed):
        return "closed"
    return "open" if isinstance(state, Open) else "half_open"


def setting_text(setting: OverrideCell) -> bytes:
    """Encode an override."""
    return msgspec.json.encode(setting)


def read_setting(text: bytes) -> OverrideCell | None:
    """Decode an override; ``None`` if it cannot be read."""
    return read_cell(text, OverrideCell)


def quality_text(quality: Quality, since_ms: int = 0) -> bytes:
    """Encode the quality by load, and since when it holds, by the store's clock."""
    return msgspec.json.encode(QualityCell(quality, since_ms))


def read_quality(text: bytes) -> QualityCell | None:
    """Decode the quality by load; ``None`` if it cannot be read."""
    return read_cell(text, QualityCell)


def read_cell(text: bytes, kind: type[T]) -> T | None:
    """Decode a cell of JSON; ``None`` if it cannot be read as that type."""
    if len(text) > MAX_CELL_BYTES:
        return None
    try:
        found: Any = msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if isinstance(found, kind) else None


Counts: TypeAlias = tuple[Count, Count, Count, Count]

_NONE: Final = (0, 0, 0, 0)
PROTECTIONS: Final = tuple(Protection)
"""In the order of `DependencyReport.held_back`."""


class BudgetReport(NamedTuple):
    """One process's share of a retry budget.

    Attributes:
        ratio_milli: Thousandths of a retry that a first attempt earns.
        floor_per_s: Retries a second, of the whole fleet, whatever was earned.
        ttl_ms: How long what is earned lasts.
        earned_milli: Earned by this process within the ttl.
        spent_milli: Spent by this process within the ttl and a little longer.
    """

    ratio_milli: Count
    floor_per_s: Count
    ttl_ms: Count
    earned_milli: Count
    spent_milli: Count


class DependencyReport(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Numbers of one process about one dependency.

    Attributes:
        calls: Calls that ended within the window of the evidence.
        failures: Calls of these that failed.
        slow: Calls of these that were slow.
        in_a_row: Failures since the last success.
        held_back: Starts put off since the process began, by protection.
        would_hold_back: The same of protections that are dark.
        limit: Calls at once that its limit allows now; 0 without a limit.
        inflight: Calls under way; counted only with a limit.
        budget: See `BudgetReport`.
        cause: Why calls failed, if the process suspects the dependency: see `Cause`.
    """

    calls: Count = 0
    failures: Count = 0
    slow: Count = 0
    in_a_row: Count = 0
    held_back: Counts = _NONE
    would_hold_back: Counts = _NONE
    limit: Count = 0
    inflight: Count = 0
    budget: BudgetReport = BudgetReport(0, 0, 0, 0, 0)
    cause: Cause | None = None

    @property
    def tally(self) -> CallTally:
        """The part that counts as evidence."""
        return CallTally(self.calls, self.failures, self.slow, self.in_a_row)


class ProcessReport(msgspec.Struct, array_like=True, frozen=True):
    """Everything that one process reports.

    Attributes:
        dependencies: The reports of dependencies, by name.
        shed: Jobs its admission refused since it began, by priority.
        would_shed: Jobs it would have refused, of an admission that is dark.
        said_ms: The time of the report, by the store's clock; ``None`` before the
            first sync.
        endpoints: What the process sees of endpoints, by dependency.
        service: What a service reports about itself.
    """

    dependencies: dict[str, DependencyReport] = {}
    shed: Counts = _NONE
    would_shed: Counts = _NONE
    said_ms: InstantMs | None = None
    endpoints: dict[str, EndpointReports] = {}
    service: ServiceReport = ServiceReport()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ProcessReport).decode
_EMPTY: Final = ProcessReport()


def words_text(words: ProcessReport) -> bytes:
    """Encode a report; the empty one is no bytes."""
    return b"" if words == _EMPTY else _encode(words)


def read_words(text: bytes) -> ProcessReport | None:
    """Decode a report; ``None`` if it cannot be read."""
    try:
        return _decode(text) if text else _EMPTY
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class PeerEvidence(NamedTuple):
    """The evidence of some processes about one dependency.

    Attributes:
        tallies: The calls that they counted.
        causes: Why calls failed, of the processes that suspect the dependency.
    """

    tallies: list[CallTally]
    causes: list[FailureCause]


NO_EVIDENCE: Final = PeerEvidence([], [])


def reports_of(
    evidence: Mapping[str, bytes], *, but: str
) -> tuple[dict[str, ProcessReport], int]:
    """The reports of the other processes.

    Args:
        evidence: The reports as they were sent, by process.
        but: The process whose report is left out.

    Returns:
        The reports, by process; and how many cannot be decoded.
    """
    found: dict[str, ProcessReport] = {}
    strange = 0
    for process, text in evidence.items():
        if process == but:
            continue
        report = read_words(text)
        strange += report is None
        if report is not None:
            found[process] = report
    return found, strange


def evidence_of(reports: Iterable[ProcessReport]) -> dict[str, PeerEvidence]:
    """The evidence of some processes that made calls, by dependency."""
    found: dict[str, PeerEvidence] = {}
    for report in reports:
        for name, of_one in report.dependencies.items():
            if of_one.calls:
                peers = found.setdefault(name, PeerEvidence([], []))
                peers.tallies.append(of_one.tally)
                if of_one.cause is not None:
                    peers.causes.append(FailureCause(*of_one.cause))
    return found
