"""What became due on earlier days, by lane and hour of the day, as a fleet shares it.

Each lane has a cell of its own, so that a scaler that starts again expects the same
hours. Cells are bytes of a store that is not trusted: one that no scaler writes is
passed over, and removed with the next change. There are `MOST_LANES` cells at most, of
the busiest lanes, since every process of the fleet reads all cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, TypeAlias

import msgspec

from shifter.fleet.shared_state import read_cell
from shifter.model.fleet import MAX_RATE, Proposal
from shifter.wire.untrusted import Count

HISTORY_CELLS: Final = "scale/hours/"
"""Histories, by lane."""
MOST_LANES: Final = 100
"""Lanes whose history is shared, at most: 25 KB."""

_HOURS: Final = 24
_HOUR_MS: Final = 3_600_000
_OLDEST_HOURS: Final = 14 * 24
_DECIMALS: Final = 4

Rate: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=MAX_RATE)]
Hours: TypeAlias = Mapping[int, float]
"""Jobs that became due a second, by hour of the day in UTC."""


class _HoursCell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One lane's history.

    Attributes:
        hour: The last hour that was learnt from, counted from the epoch.
        per_s: Jobs a second, for each hour of the day; ``None`` where none was seen.
    """

    hour: Count
    per_s: Annotated[
        list[Rate | None], msgspec.Meta(min_length=_HOURS, max_length=_HOURS)
    ]


def hours_text(hours: Hours, now_ms: int) -> bytes:
    """Encode a history that was learnt from until now."""
    per_s = [hours.get(hour) for hour in range(_HOURS)]
    kept = [
        None if one is None else round(min(one, MAX_RATE), _DECIMALS) for one in per_s
    ]
    return msgspec.json.encode(_HoursCell(now_ms // _HOUR_MS, kept))


def read_hours(text: bytes, now_ms: int) -> dict[int, float] | None:
    """Decode a history; ``None`` for what no scaler writes, and for what is too old.

    Args:
        text: The bytes of a cell.
        now_ms: The store's clock, epoch milliseconds.
    """
    cell, now = read_cell(text, _HoursCell), now_ms // _HOUR_MS
    if cell is None or not now - _OLDEST_HOURS <= cell.hour <= now + 1:
        return None
    return {hour: rate for hour, rate in enumerate(cell.per_s) if rate is not None}


def read_histories(
    cells: Mapping[str, bytes], now_ms: int
) -> dict[str, dict[int, float]]:
    """The histories among all cells, by lane."""
    found = {}
    for cell, text in cells.items():
        if cell.startswith(HISTORY_CELLS):
            hours = read_hours(text, now_ms)
            if hours is not None:
                found[cell.removeprefix(HISTORY_CELLS)] = hours
    return found


def changed_histories(
    cells: Mapping[str, bytes], learnt: Mapping[str, Hours], now_ms: int
) -> Iterator[Proposal]:
    """What has to be set so that the cells have what was learnt.

    Args:
        cells: All cells as they are.
        learnt: Histories, by lane.
        now_ms: The store's clock, epoch milliseconds.
    """
    known = read_histories(cells, now_ms)
    for cell, text in cells.items():
        lane = cell.removeprefix(HISTORY_CELLS)
        if cell.startswith(HISTORY_CELLS) and lane not in known and lane not in learnt:
            yield Proposal(cell, text, b"")
    merged = {lane: known.get(lane, {}) | dict(hours) for lane, hours in learnt.items()}
    others = sum(lane not in merged for lane in known)
    busiest = sorted(merged, key=lambda lane: (-sum(merged[lane].values()), lane))
    for lane in busiest[: max(0, MOST_LANES - others)]:
        if known.get(lane) != _rounded(merged[lane]):
            cell = HISTORY_CELLS + lane
            text = hours_text(merged[lane], now_ms)
            yield Proposal(cell, cells.get(cell, b""), text)


def _rounded(hours: Hours) -> dict[int, float]:
    return {hour: round(min(rate, MAX_RATE), _DECIMALS) for hour, rate in hours.items()}
