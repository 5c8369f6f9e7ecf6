"""Values that processes share through a store, and the bounds of each number there.

A *cell* is a small named value that processes agree on by compare-and-set: a circuit's
state, a quality, an operator's override. *Evidence* is what one process counted; the
store does not interpret it. Budgets and rates are counted by the store itself, since
every process takes from them all the time.

A client with write access to the store can write any value. Each number is therefore
read once, by `read_whole` or `read_load`; ``lua/number.lua`` mirrors them for the
scripts of Redis. A text that breaks their rules is counted and skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

MAX_COUNT: Final = 2**53 - 2
"""The largest whole number; Lua counts in doubles, and one more is still exact."""

MAX_INSTANT_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999: the horizon of every instant."""

MAX_LOAD: Final = 1_000_000.0
"""The largest load of a process; 1 is its capacity."""

MAX_RATE: Final = 1e9
"""The largest number of jobs a second that a worker may report."""

_WHOLE: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z")
_LOAD: Final = re.compile(r"[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?\Z")
_LOAD_CHARS: Final = 24

MAX_NAMES = 4_096
"""Cells, budgets and rates of a namespace, each; further ones are refused."""
MAX_CELL_BYTES = 4_096
MAX_NAME_BYTES = 1_024
MAX_EVIDENCE_BYTES = 262_144
MAX_EVIDENCE_SHOWN = 16_777_216
"""Bytes of evidence in one view; further evidence is left out."""
MAX_PROCESSES = 20_000
MAX_WORKERS = 20_000
"""Workers that are shown."""
MAX_PRESENCE_MS = 600_000
"""Longest time that a worker's report is kept, whatever the worker asked for."""
MAX_KEEP_MS = 60_000
"""Longest time that a report is kept, whatever the process asked for."""


class Proposal(NamedTuple):
    """Set a cell, if it still holds what was expected.

    Attributes:
        name: Name of the cell.
        expected: Its value as this process has it; empty if there is none.
        value: The new value; an empty one removes the cell.
    """

    name: str
    expected: bytes
    value: bytes


class BudgetWish(NamedTuple):
    """Deposit in a retry budget, and take from it.

    Attributes:
        name: The dependency's.
        floor_milli: What its floor allows within the ttl, thousandths of a retry.
        bucket_ms: Length of its buckets, >= 1.
        deposit_buckets: How many of them a deposit lasts, >= 1.
        withdrawal_buckets: How many a withdrawal is remembered, >= 1.
        deposit_milli: Deposit; below 0 it pays for retries made without a grant.
        wants: Whole retries wanted, most urgent priority first; four numbers >= 0.
    """

    name: str
    floor_milli: int
    bucket_ms: int
    deposit_buckets: int
    withdrawal_buckets: int
    deposit_milli: int
    wants: tuple[int, int, int, int]


class RateWish(NamedTuple):
    """Take calls from a rate limit.

    Attributes:
        name: The dependency's.
        interval_us: Microseconds from call to call, >= 1.
        burst: Calls that may come at once, >= 1.
        want: Calls wanted, >= 1.
    """

    name: str
    interval_us: int
    burst: int
    want: int


class RateGrant(NamedTuple):
    """Calls granted, >= 0; where none is, microseconds until one may be."""

    calls: int
    wait_us: int


class FleetReport(NamedTuple):
    """The report and the requests of one process in one sync.

    Attributes:
        process: Its id, unique per start.
        load: Part of its capacity that is used, from 0 to `MAX_LOAD`; 1 is all of it.
        evidence: What it counted; empty if it counted nothing.
        is_alarmed: Whether it suspects a dependency; then the answer has the evidence
            of all processes.
        keep_ms: How long its evidence and load are kept, 0-60000; with 0 it only reads,
            and is no process of the fleet.
        version: The version of the cells that it has; 0 for none.
        proposals: Cells to be set.
        budgets: Of retries.
        rates: Of calls.
    """

    process: str
    load: float
    evidence: bytes
    is_alarmed: bool
    keep_ms: int
    version: int
    proposals: Sequence[Proposal] = ()
    budgets: Sequence[BudgetWish] = ()
    rates: Sequence[RateWish] = ()


class FleetLoad(NamedTuple):
    """How many processes live, and how busy they are.

    Attributes:
        processes: How many there are.
        mean: Their mean load; 0 without any.
        highest: The highest load of one; 0 without any.
    """

    processes: int
    mean: float
    highest: float


class FleetView(NamedTuple):
    """The answer to a `FleetReport`.

    Attributes:
        now_ms: The time, by the store's clock.
        version: The version of the cells.
        cells: All cells, by name; ``None`` if the process has this version.
        accepted: Whether each proposal was, in order.
        evidence: What each live process counted, by its id; empty while no process
            is alarmed. In a fleet of more than a hundred, only some of the alarmed
            processes are sent it, and the others are when they ask again.
        load: Of the live processes. A store may count them a little less often than
            they sync.
        granted: Retries per budget wish and priority, in order.
        rates: Calls per rate wish, in order.
        strange: Number of values in the store that could not be read; they were
            removed, or the next write replaces them.
        place: How many live processes have a smaller id; ``None`` if the process is
            none of them.
    """

    now_ms: int
    version: int
    cells: Mapping[str, bytes] | None
    accepted: Sequence[bool]
    evidence: Mapping[str, bytes]
    load: FleetLoad
    granted: Sequence[tuple[int, int, int, int]]
    rates: Sequence[RateGrant]
    strange: int = 0
    place: int | None = None


def read_whole(text: str, most: int = MAX_COUNT) -> int | None:
    """A whole number from 0 to ``most``; ``None`` for any other text.

    Digits only: no sign, no blank, no leading zero, no other base. Pure.

    >>> read_whole("42"), read_whole("0x10"), read_whole("-1"), read_whole("007")
    (42, None, None, None)
    """
    if _WHOLE.match(text) is None:
        return None
    number = int(text)
    return number if number <= most else None


def read_load(text: str) -> float | None:
    """A load from 0 to `MAX_LOAD`, as ``repr`` of a float writes it; else ``None``.

    >>> read_load("0.5"), read_load("1e-09"), read_load("inf"), read_load("0x10")
    (0.5, 1e-09, None, None)
    """
    if len(text) > _LOAD_CHARS or _LOAD.match(text) is None:
        return None
    load = float(text)
    return load if load <= MAX_LOAD else None
