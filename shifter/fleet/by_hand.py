"""What an operator sees of a fleet, and sets.

An operator's program is no process of the fleet: it says nothing that lasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from shifter.fleet.cells import (
    QUALITY,
    QUALITY_BY_HAND,
    Setting,
    by_hand_cell,
    circuit_cell,
    dependency_of,
    read_circuit,
    read_quality,
    read_setting,
    setting_text,
    state_word,
)
from shifter.fleet.statement import PROTECTIONS, Statement, read_statements
from shifter.model.fleet import FleetReport, FleetView, Proposal
from shifter.policy.circuit import HalfOpen, Open
from shifter.ports import FleetStore

_TRIES: Final = 5


class SetByHand(msgspec.Struct, frozen=True):
    """Something that somebody set.

    Attributes:
        to: What it was set to.
        owner: Who.
        reason: Why.
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
        by_hand: What somebody set over it, while that lasts.
        processes: How many said something of it within the last 2 s.
        calls: Calls that ended within the window, in all of them.
        failures: Those that failed.
        inflight: Calls under way, of dependencies with a limit.
        limit: Calls at once, of all processes together; ``None`` without a limit.
        held_back: Starts put off since the processes began, by what did it.
        would_hold_back: The same of what is dark.
    """

    dependency: str
    state: str
    reopens_s: float | None
    probes: int
    by_hand: SetByHand | None
    processes: int
    calls: int
    failures: int
    inflight: int
    limit: int | None
    held_back: dict[str, int]
    would_hold_back: dict[str, int]


class QualityRow(msgspec.Struct, frozen=True):
    """The quality that the fleet serves at.

    Attributes:
        quality: In force.
        by_load: What load says.
        by_hand: What somebody set over it, while that lasts.
        load: Mean of the processes; 1 is all there is room for. ``None`` without any.
        processes: How many there are.
    """

    quality: str
    by_load: str
    by_hand: SetByHand | None
    load: float | None
    processes: int


class Fleet(msgspec.Struct, frozen=True):
    """All of it, at one moment; what processes said is at most 2 s old."""

    circuits: list[CircuitRow]
    quality: QualityRow


async def look(store: FleetStore, process: str) -> Fleet:
    """What holds now.

    Args:
        store: Where the fleet agrees.
        process: Name of the operator's program.

    Raises:
        StoreError: It does not answer.
    """
    view = await store.sync(_question(process))
    cells = {} if view.cells is None else view.cells
    said = {p: read_statements(text) for p, text in view.evidence.items()}
    names = {name for words in said.values() for name in words}
    names |= {name for cell in cells if (name := dependency_of(cell)) is not None}
    rows = [
        _circuit(name, cells, [w[name] for w in said.values() if name in w], view)
        for name in sorted(names)
    ]
    # The question itself is a voice.
    loads = list(view.loads)
    loads.remove(0.0)
    return Fleet(rows, _quality(cells, loads, view.now_ms))


async def set_by_hand(
    store: FleetStore, process: str, cell: str, setting: Setting | None
) -> None:
    """Set a cell, or let go of it; its end is given from now by the store's clock.

    Args:
        store: Where the fleet agrees.
        process: Name of the operator's program.
        cell: `by_hand_cell` of a dependency, or `QUALITY_BY_HAND`.
        setting: With ``until_ms`` as milliseconds from now; ``None`` to let go.

    Raises:
        StoreError: It does not answer.
        RuntimeError: Others set it again and again at the same time.
    """
    view = await store.sync(_question(process))
    for _ in range(_TRIES):
        held = ({} if view.cells is None else view.cells).get(cell, b"")
        text = b""
        if setting is not None:
            until_ms = view.now_ms + setting.until_ms
            text = setting_text(msgspec.structs.replace(setting, until_ms=until_ms))
        if held == text:
            return
        question = _question(process)
        change = [Proposal(cell, held, text)]
        view = await store.sync(question._replace(proposals=change))
        if view.accepted[0]:
            return
    raise RuntimeError(f"{cell} changes all the time")


def _question(process: str) -> FleetReport:
    return FleetReport(process, 0.0, b"", is_alarmed=True, keep_ms=1, version=0)


def _circuit(
    name: str, cells: Mapping[str, bytes], said: Sequence[Statement], view: FleetView
) -> CircuitRow:
    state = read_circuit(cells.get(circuit_cell(name), b""))
    opens_ms = state.until_ms if isinstance(state, Open) else None
    return CircuitRow(
        dependency=name,
        state="closed" if state is None else state_word(state),
        reopens_s=None if opens_ms is None else max(0, opens_ms - view.now_ms) / 1_000,
        probes=len(state.probes) if isinstance(state, HalfOpen) else 0,
        by_hand=_by_hand(cells.get(by_hand_cell(name)), view.now_ms),
        processes=len(said),
        calls=sum(words.calls for words in said),
        failures=sum(words.failures for words in said),
        inflight=sum(words.inflight for words in said),
        limit=sum(words.limit for words in said) or None,
        held_back=_sums([words.held_back for words in said]),
        would_hold_back=_sums([words.would_hold_back for words in said]),
    )


def _sums(rows: Sequence[tuple[int, ...]]) -> dict[str, int]:
    sums = zip(PROTECTIONS, map(sum, zip(*rows, strict=True)), strict=False)
    return {protection.value: count for protection, count in sums if count}


def _by_hand(text: bytes | None, now_ms: int) -> SetByHand | None:
    setting = None if text is None else read_setting(text)
    if setting is None or setting.until_ms <= now_ms:
        return None
    left_s = (setting.until_ms - now_ms) / 1_000
    return SetByHand(setting.to, setting.owner, setting.reason, left_s)


def _quality(
    cells: Mapping[str, bytes], loads: Sequence[float], now_ms: int
) -> QualityRow:
    found = read_quality(cells.get(QUALITY, b""))
    by_load = "FULL" if found is None else found.value
    by_hand = _by_hand(cells.get(QUALITY_BY_HAND), now_ms)
    return QualityRow(
        quality=by_load if by_hand is None else by_hand.to,
        by_load=by_load,
        by_hand=by_hand,
        load=sum(loads) / len(loads) if loads else None,
        processes=len(loads),
    )
