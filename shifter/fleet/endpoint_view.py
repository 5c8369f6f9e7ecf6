"""What operators see of endpoints: the reports of all processes, summed up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from shifter.fleet.endpoint_cells import (
    EndpointCell,
    EndpointReport,
    endpoint_of,
    read_ejection,
)
from shifter.fleet.shared_state import OverrideCell, ProcessReport, read_setting
from shifter.policy.balance.mark import MarkKind
from shifter.wire.untrusted import printable

_MOST: Final = 4_096
"""Endpoints that are shown."""

_WORST: Final = ("drained", "ejected", "paused", "starting", "open")


class EndpointRow(msgspec.Struct, frozen=True):
    """One endpoint of a dependency, as the fleet sees it.

    Attributes:
        dependency: The name of the dependency.
        endpoint: The endpoint's URL.
        state: ``drained`` by an operator or ``ejected`` by the fleet; otherwise what
            most processes see: ``open``, ``starting``, ``paused`` or ``ejected``.
        zone: Where it is; ``None`` if that is not known.
        weight: Its weight, the largest that a process sees.
        processes: Processes that report it.
        out_in: Processes that give it no calls.
        inflight: Calls under way, of all processes.
        latency_ms: Average of its latency, weighted by calls; ``None`` without a call.
        calls: Calls that ended in the last 10 to 20 s, by the default interval.
        failures: Those that failed.
        error_rate: Share of calls that failed; ``None`` without a call.
        since_s: Seconds for which it has been out; ``None`` if it is not.
        left_s: Seconds until it is called again; ``None`` if that is not known.
        by: Who took it out: ``operator``, ``fleet``, ``checks`` or ``process``;
            ``None`` if it is not out.
        why: The reason; ``None`` if it is not out.
    """

    dependency: str
    endpoint: str
    state: str
    zone: str | None
    weight: float
    processes: int
    out_in: int
    inflight: int
    latency_ms: float | None
    calls: int
    failures: int
    error_rate: float | None
    since_s: float | None
    left_s: float | None
    by: str | None
    why: str | None


def endpoint_rows(
    cells: Mapping[str, bytes], processes: Iterable[ProcessReport], now_ms: int
) -> list[EndpointRow]:
    """All endpoints, by dependency and URL.

    Args:
        cells: All cells of the fleet.
        processes: The reports of its processes.
        now_ms: The time, by the store's clock.
    """
    found: dict[tuple[str, str], list[EndpointReport]] = {}
    for process in processes:
        for dependency, rows in process.endpoints.items():
            for row in rows:
                found.setdefault((dependency, row.url), []).append(row)
    agreed = _agreed(cells, now_ms)
    names = sorted(found.keys() | agreed.keys())[:_MOST]
    return [_row(*name, found.get(name, ()), agreed.get(name)) for name in names]


class _Agreed(msgspec.Struct, frozen=True):
    """What a cell says of an endpoint that is out."""

    state: str
    by: str
    why: str
    since_s: float | None
    left_s: float


def _agreed(cells: Mapping[str, bytes], now_ms: int) -> dict[tuple[str, str], _Agreed]:
    found: dict[tuple[str, str], _Agreed] = {}
    # By kind, so that what an operator did is shown rather than what the fleet found.
    for kind in reversed(MarkKind):
        for name, text in cells.items():
            cell = endpoint_of(name)
            if cell is not None and cell.kind is kind:
                agreed = _read(cell, text, now_ms)
                if agreed is not None:
                    found[cell.dependency, cell.url] = agreed
    return found


def _read(cell: EndpointCell, text: bytes, now_ms: int) -> _Agreed | None:
    if cell.kind is MarkKind.DRAIN:
        setting = read_setting(text)
        if setting is None or setting.to != "drained" or setting.until_ms <= now_ms:
            return None
        why, left_s = _reason(setting), (setting.until_ms - now_ms) / 1_000
        return _Agreed("drained", "operator", why, None, left_s)
    ejection = read_ejection(text)
    if ejection is None or ejection.until_ms <= now_ms:
        return None
    return _Agreed(
        "ejected",
        cell.kind.value,
        printable(ejection.why, 200),
        max(0, now_ms - ejection.since_ms) / 1_000,
        (ejection.until_ms - now_ms) / 1_000,
    )


def _reason(setting: OverrideCell) -> str:
    return printable(f"{setting.owner}: {setting.reason}", 200)


def _row(
    dependency: str, url: str, rows: Sequence[EndpointReport], agreed: _Agreed | None
) -> EndpointRow:
    calls, failures = sum(row.calls for row in rows), sum(row.failures for row in rows)
    out = [row for row in rows if row.state in ("drained", "ejected", "paused")]
    timed = [row for row in rows if row.latency_us]
    weight = sum(max(1, row.calls) for row in timed)
    latency_us = sum(row.latency_us * max(1, row.calls) for row in timed)
    state, by, why, since_s, left_s = _common(rows), None, None, None, None
    if agreed is not None:
        state, by, why = agreed.state, agreed.by, agreed.why
        since_s, left_s = agreed.since_s, agreed.left_s
    elif state in ("drained", "ejected", "paused"):
        by, why = "process", printable(out[0].why, 200) or None
    if out and by is not None and since_s is None:
        since_s = max(row.out_ms for row in out) / 1_000
    if out and left_s is None:
        left_s = max(row.left_ms for row in out) / 1_000 or None
    return EndpointRow(
        dependency=printable(dependency, 64),
        endpoint=printable(url, 400),
        state=state,
        zone=next((printable(row.zone, 200) for row in rows if row.zone), None),
        weight=max((row.weight_milli for row in rows), default=0) / 1_000,
        processes=len(rows),
        out_in=len(out),
        inflight=sum(row.inflight for row in rows),
        latency_ms=round(latency_us / weight / 1_000, 3) if weight else None,
        calls=calls,
        failures=failures,
        error_rate=round(min(1.0, failures / calls), 4) if calls else None,
        since_s=since_s,
        left_s=left_s if by is not None else None,
        by=by,
        why=why,
    )


def _common(rows: Sequence[EndpointReport]) -> str:
    """The state that most processes see; of equally many, the worse one."""
    words: list[str] = [row.state for row in rows]
    return max(_WORST, key=lambda word: (words.count(word), -_WORST.index(word)))
