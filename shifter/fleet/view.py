"""What operators see of a fleet, and the overrides that they set.

The reports of processes are summed up; what processes agreed on is in the cells. An
operator's program is no process of the fleet: it reports nothing of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import msgspec

from shifter.fleet.cause_view import CauseRow, cause_row
from shifter.fleet.endpoint_view import EndpointRow, endpoint_rows
from shifter.fleet.hours import scope_of
from shifter.fleet.service_reports import (
    AdmissionRow,
    ServiceRow,
    admission_row,
    service_rows,
)
from shifter.fleet.shared_state import (
    PROTECTIONS,
    QUALITY,
    QUALITY_BY_HAND,
    DependencyReport,
    OverrideCell,
    ProcessReport,
    by_hand_cell,
    circuit_cell,
    dependency_of,
    read_circuit,
    read_quality,
    read_setting,
    read_words,
    setting_text,
    state_word,
)
from shifter.model.fleet import FleetLoad, FleetReport, FleetView, Proposal
from shifter.policy.protection.budget import URGENT_FIRST
from shifter.policy.protection.circuit.states import (
    HalfOpen,
    Open,
)
from shifter.policy.protection.dependency import Protection
from shifter.ports import FleetStore, understood

_TRIES: Final = 5
"""Attempts to set a cell that others set at the same time."""


class OverrideRow(msgspec.Struct, frozen=True):
    """An operator's override.

    Attributes:
        to: The value that was set.
        owner: Who set it.
        reason: Why it was set.
        left_s: Seconds until it ends.
    """

    to: str
    owner: str
    reason: str
    left_s: float


class CircuitRow(msgspec.Struct, frozen=True):
    """One dependency, as the fleet sees it.

    Attributes:
        dependency: Its name.
        state: ``closed``, ``open`` or ``half_open``, as the fleet agreed.
        reopens_s: Seconds until an open circuit lets probes through.
        probes: Probes under way.
        by_hand: The operator's override, while it lasts.
        processes: How many processes report the dependency.
        age_s: Age of the oldest report; reports are forgotten after 2 s. ``None`` if
            no process reports the dependency.
        calls: Calls that ended within the window, in all of them.
        failures: Those that failed.
        inflight: Calls under way, of dependencies with a limit.
        limit: Calls at once, of all processes together; ``None`` without a limit.
        held_back: Starts put off since the processes began, by what did it.
        would_hold_back: The same of what is dark.
        cause: Why the circuit opened or, while it is closed, why processes that suspect
            the dependency do; ``None`` if there is no reason.
        since_ms: When it closed, or first opened; epoch milliseconds.
    """

    dependency: str
    state: str
    reopens_s: float | None
    probes: int
    by_hand: OverrideRow | None
    processes: int
    age_s: float | None
    calls: int
    failures: int
    inflight: int
    limit: int | None
    held_back: dict[str, int]
    would_hold_back: dict[str, int]
    cause: CauseRow | None = None
    since_ms: int | None = None


class QualityRow(msgspec.Struct, frozen=True):
    """The quality that the fleet serves at.

    Attributes:
        quality: In force.
        by_load: The quality by load alone.
        by_hand: The operator's override, while it lasts.
        load: Mean of the processes; 1 is all there is room for. ``None`` without any.
        processes: How many there are.
        since_ms: Since when the quality by load holds, epoch milliseconds.
    """

    quality: str
    by_load: str
    by_hand: OverrideRow | None
    load: float | None
    processes: int
    since_ms: int | None = None


class BudgetRow(msgspec.Struct, frozen=True):
    """The retry budget of one dependency. Retries are whole ones, and parts of them.

    Attributes:
        dependency: Its name.
        ratio: Retries that a first attempt earns.
        floor_per_s: Retries a second whatever was earned, of the whole fleet.
        window_s: How long what is earned lasts.
        processes: How many processes report it.
        age_s: As in `CircuitRow`.
        earned: Within the window, by first attempts.
        made: Extra executions within the window, and a little longer.
        left: What the fleet may still make; below 0 when what was earned ended before
            what was made with it.
        refused: Extra executions put off since the processes began.
        would_refuse: The same in the dark.
    """

    dependency: str
    ratio: float
    floor_per_s: int
    window_s: float
    processes: int
    age_s: float | None
    earned: float
    made: float
    left: float
    refused: int
    would_refuse: int


class WindowRow(msgspec.Struct, frozen=True):
    """Hours of a queue, a lane or a type of job.

    Attributes:
        scope: ``queue/mail``, ``lane/mail/low`` or ``job/send_receipt``.
        is_open: Whether jobs may start by it now.
        windows: As declared; empty for what is set by hand only.
        opens_s: Seconds until it opens by its windows; ``None`` while it is open.
        by_hand: The operator's override, while it lasts.
    """

    scope: str
    is_open: bool
    windows: list[str]
    opens_s: float | None
    by_hand: OverrideRow | None


class Fleet(msgspec.Struct, frozen=True):
    """The state of the fleet at one moment; reports are at most 2 s old."""

    circuits: list[CircuitRow]
    budgets: list[BudgetRow]
    quality: QualityRow
    admission: AdmissionRow
    windows: list[WindowRow]
    endpoints: list[EndpointRow] = []
    services: list[ServiceRow] = []


class _Reports(NamedTuple):
    """The reports of one dependency, and the age of the oldest."""

    reports: list[DependencyReport]
    age_s: float | None


async def look(store: FleetStore, process: str) -> Fleet:
    """Read the state of the fleet.

    Args:
        store: The store that the fleet shares.
        process: Name of the operator's program.

    Raises:
        StoreError: The store does not answer.
    """
    view = await store.sync(question(process))
    with understood("the state store", "fleet.sync"):
        return _fleet(view)


def _fleet(view: FleetView) -> Fleet:
    cells, now_ms = {} if view.cells is None else view.cells, view.now_ms
    read = [(name, read_words(text)) for name, text in view.evidence.items()]
    processes = [one for _, one in read if one is not None]
    services = {name: one.service for name, one in read if one is not None}
    names = {name for one in processes for name in one.dependencies}
    names |= {name for cell in cells if (name := dependency_of(cell)) is not None}
    by_name = {name: _reports(name, processes, now_ms) for name in sorted(names)}
    return Fleet(
        [_circuit(name, cells, found, now_ms) for name, found in by_name.items()],
        [_budget(name, found) for name, found in by_name.items() if found.reports],
        _quality(cells, view.load, now_ms),
        admission_row(
            _sums(URGENT_FIRST, [one.shed for one in processes]),
            _sums(URGENT_FIRST, [one.would_shed for one in processes]),
            services,
            now_ms,
        ),
        _windows(cells, now_ms),
        endpoint_rows(cells, processes, now_ms),
        service_rows(services),
    )


def _reports(name: str, processes: Sequence[ProcessReport], now_ms: int) -> _Reports:
    reporting = [one for one in processes if name in one.dependencies]
    sent_ms = [one.said_ms for one in reporting if one.said_ms is not None]
    age_s = max(0, now_ms - min(sent_ms)) / 1_000 if sent_ms else None
    return _Reports([one.dependencies[name] for one in reporting], age_s)


def _budget(name: str, found: _Reports) -> BudgetRow:
    by = PROTECTIONS.index(Protection.BUDGET)
    budgets = [one.budget for one in found.reports]
    # Processes of two releases may differ for a while; the larger terms are shown.
    ratio_milli, floor_per_s, ttl_ms = max(budget[:3] for budget in budgets)
    earned = sum(budget.earned_milli for budget in budgets) / 1_000
    made = sum(budget.spent_milli for budget in budgets) / 1_000
    return BudgetRow(
        dependency=name,
        ratio=ratio_milli / 1_000,
        floor_per_s=floor_per_s,
        window_s=ttl_ms / 1_000,
        processes=len(budgets),
        age_s=found.age_s,
        earned=earned,
        made=made,
        left=round(floor_per_s * ttl_ms / 1_000 + earned - made, 3),
        refused=sum(one.held_back[by] for one in found.reports),
        would_refuse=sum(one.would_hold_back[by] for one in found.reports),
    )


def _circuit(
    name: str, cells: Mapping[str, bytes], found: _Reports, now_ms: int
) -> CircuitRow:
    reports = found.reports
    state = read_circuit(cells.get(circuit_cell(name), b""))
    opens_ms = state.until_ms if isinstance(state, Open) else None
    return CircuitRow(
        dependency=name,
        state="closed" if state is None else state_word(state),
        reopens_s=None if opens_ms is None else max(0, opens_ms - now_ms) / 1_000,
        probes=len(state.probes) if isinstance(state, HalfOpen) else 0,
        by_hand=_by_hand(cells.get(by_hand_cell(name)), now_ms),
        processes=len(reports),
        age_s=found.age_s,
        calls=sum(one.calls for one in reports),
        failures=sum(one.failures for one in reports),
        inflight=sum(one.inflight for one in reports),
        limit=sum(one.limit for one in reports) or None,
        held_back=_sums(PROTECTIONS, [one.held_back for one in reports]),
        would_hold_back=_sums(PROTECTIONS, [one.would_hold_back for one in reports]),
        cause=cause_row(state, reports),
        since_ms=None if state is None else min(state.since_ms, now_ms) or None,
    )


def _sums(words: Sequence[StrEnum], rows: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The sum of each column that is not 0, by its word."""
    sums = zip(words, map(sum, zip(*rows, strict=True)), strict=False)
    return {word.value: count for word, count in sums if count}


def _by_hand(text: bytes | None, now_ms: int) -> OverrideRow | None:
    setting = None if text is None else read_setting(text)
    if setting is None or setting.until_ms <= now_ms:
        return None
    left_s = (setting.until_ms - now_ms) / 1_000
    return OverrideRow(setting.to, setting.owner, setting.reason, left_s)


def _windows(cells: Mapping[str, bytes], now_ms: int) -> list[WindowRow]:
    rows = []
    for cell, text in sorted(cells.items()):
        scope, setting = scope_of(cell), _by_hand(text, now_ms)
        if scope is not None and setting is not None:
            rows.append(WindowRow(scope, setting.to == "open", [], None, setting))
    return rows


def _quality(cells: Mapping[str, bytes], load: FleetLoad, now_ms: int) -> QualityRow:
    found = read_quality(cells.get(QUALITY, b""))
    by_load = "FULL" if found is None else found.quality.value
    by_hand = _by_hand(cells.get(QUALITY_BY_HAND), now_ms)
    return QualityRow(
        quality=by_load if by_hand is None else by_hand.to,
        by_load=by_load,
        by_hand=by_hand,
        load=load.mean if load.processes else None,
        processes=load.processes,
        since_ms=None if found is None else min(found.since_ms, now_ms) or None,
    )


async def set_by_hand(
    store: FleetStore, process: str, cell: str, setting: OverrideCell | None
) -> None:
    """Set a cell, or let go of it; its end is given from now by the store's clock.

    Args:
        store: Where the fleet agrees.
        process: Name of the operator's program.
        cell: `by_hand_cell` of a dependency, `QUALITY_BY_HAND`, a `window_cell`, or
            that of an endpoint.
        setting: With ``until_ms`` as milliseconds from now; ``None`` to let go.

    Raises:
        StoreError: It does not answer.
        RuntimeError: Others set it again and again at the same time.
    """

    def change(cells: dict[str, bytes], now_ms: int) -> list[Proposal]:
        held, text = cells.get(cell, b""), b""
        if setting is not None:
            until_ms = now_ms + setting.until_ms
            text = setting_text(msgspec.structs.replace(setting, until_ms=until_ms))
        return [] if held == text else [Proposal(cell, held, text)]

    await change_cells(store, process, change)


CellChange: TypeAlias = Callable[[dict[str, bytes], int], list[Proposal]]
"""From all cells and the store's clock to what is to be set; none where all is well."""


async def change_cells(
    store: FleetStore, process: str, change: CellChange
) -> dict[str, bytes]:
    """Change cells by compare-and-set, and anew where another process was first.

    Args:
        store: Where the fleet agrees.
        process: Name of the operator's program.
        change: Called with what the cells hold now; the first proposal decides whether
            the change is accepted. What it raises ends the change.

    Returns:
        The cells as they are with the change.

    Raises:
        StoreError: The store does not answer.
        RuntimeError: Others change the cells again and again at the same time.
    """
    view, name = await store.sync(question(process)), ""
    for _ in range(_TRIES):
        cells = dict(view.cells or {})
        wanted = change(cells, view.now_ms)
        if not wanted:
            return cells
        name = wanted[0].name
        view = await store.sync(question(process)._replace(proposals=wanted))
        if view.accepted[0]:
            return dict(view.cells or {})
    raise RuntimeError(f"{name} changes all the time")


async def cells_of(store: FleetStore, process: str) -> tuple[Mapping[str, bytes], int]:
    """All cells, and the store's clock; arguments and errors as of `set_by_hand`."""
    view = await store.sync(question(process))
    return {} if view.cells is None else view.cells, view.now_ms


def question(process: str) -> FleetReport:
    """A report without evidence that asks for all cells."""
    return FleetReport(process, 0.0, b"", is_alarmed=True, keep_ms=0, version=0)
