"""The report of one process at each sync, as the store carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import CallTally
from shifter.policy.protection.dependency import Protection
from shifter.wire.untrusted import Count, InstantMs

Counts: TypeAlias = tuple[Count, Count, Count, Count]

_NONE: Final = (0, 0, 0, 0)
PROTECTIONS: Final = tuple(Protection)
"""In the order of `DependencyReport.held_back`."""
URGENT_FIRST: Final = sorted(Priority, key=lambda priority: -priority.rank)
"""In the order of `ProcessReport.shed`."""


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

    @property
    def tally(self) -> CallTally:
        """The part that counts as evidence."""
        return CallTally(self.calls, self.failures, self.slow, self.in_a_row)


Statements: TypeAlias = dict[str, DependencyReport]


class ProcessReport(msgspec.Struct, array_like=True, frozen=True):
    """Everything that one process reports.

    Attributes:
        dependencies: The reports of dependencies, by name.
        shed: Jobs its admission refused since it began, by priority.
        would_shed: Jobs it would have refused, of an admission that is dark.
        said_ms: The time of the report, by the store's clock; ``None`` before the
            first sync.
    """

    dependencies: Statements = {}
    shed: Counts = _NONE
    would_shed: Counts = _NONE
    said_ms: InstantMs | None = None


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


def tallies_of(
    evidence: Mapping[str, bytes], *, but: str
) -> tuple[dict[str, list[CallTally]], int]:
    """What the others say, by dependency, and how many cannot be understood.

    Args:
        evidence: By process.
        but: The process that asks.
    """
    said: dict[str, list[CallTally]] = {}
    strange = 0
    for process, text in evidence.items():
        if process == but:
            continue
        words = read_words(text)
        strange += words is None
        for name, statement in words.dependencies.items() if words else ():
            if statement.calls:
                said.setdefault(name, []).append(statement.tally)
    return said, strange
