"""What the fleet shares, and what one sync does to it.

The specification of the scripts of every store: Redis computes the same in Lua, SQLite
and the memory adapter use this very table. Pure: the caller passes the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from shifter.model.fleet import (
    MAX_CELL_BYTES,
    MAX_COUNT,
    MAX_EVIDENCE_BYTES,
    MAX_EVIDENCE_SHOWN,
    MAX_INSTANT_MS,
    MAX_KEEP_MS,
    MAX_LOAD,
    MAX_NAME_BYTES,
    MAX_NAMES,
    MAX_PROCESSES,
    FleetLoad,
    FleetReport,
    FleetView,
    Proposal,
    RateGrant,
    RateWish,
)
from shifter.policy.protection.budget import BudgetRow, is_sound, serve
from shifter.policy.protection.rate import take

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class LastReport:
    """The last report of one process.

    Attributes:
        until_ms: When the report is forgotten.
        load: How busy the process is.
        evidence: The calls that it counted, opaque here.
    """

    until_ms: int
    load: float
    evidence: bytes


@dataclass(slots=True)
class FleetTable:
    """Everything that one namespace shares.

    Attributes:
        version: Grows with every change of a cell. Begins at the store's microsecond,
            so that one that forgot everything comes to no version that was known.
        cells: By name.
        voices: By process.
        alarm_until_ms: Until then, answers hold the evidence of all processes.
        budgets: By dependency.
        rates: By dependency; see `shifter.policy.protection.rate`.
    """

    version: int = 0
    cells: dict[str, bytes] = field(default_factory=dict)
    voices: dict[str, LastReport] = field(default_factory=dict)
    alarm_until_ms: int = 0
    budgets: dict[str, BudgetRow] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)

    def sync(self, report: FleetReport, *, now_ms: int, now_us: int) -> FleetView:
        """Apply the report of one process, and answer it.

        Args:
            report: The report and the requests of the process.
            now_ms: The time, by the store's clock.
            now_us: The same time in microseconds.
        """
        if self.version == 0:
            self.version = now_us
        accepted = [self._propose(proposal) for proposal in report.proposals]
        self.version += sum(accepted)
        self._hear(report, now_ms)
        granted = []
        for asked in report.budgets:
            row = self.budgets.get(asked.name)
            if row is None and len(self.budgets) >= MAX_NAMES:
                granted.append((0, 0, 0, 0))
                continue
            self.budgets[asked.name], retries = serve(row or {}, asked, now_ms=now_ms)
            granted.append(retries)
        is_alarmed = report.is_alarmed or now_ms < self.alarm_until_ms
        return FleetView(
            now_ms,
            self.version,
            None if report.version == self.version else dict(self.cells),
            accepted,
            self._evidence() if is_alarmed else {},
            self._load(),
            granted,
            [self._rate(asked, now_us) for asked in report.rates],
            place=self._place(report.process),
        )

    def mend(self) -> int:
        """Remove values that no sync can have written, after the table was read.

        Of cells, voices, budgets and rates that are more than there is room for, none
        is kept.

        Returns:
            How many values were taken out.
        """
        kept = (
            _sound(self.cells, MAX_NAMES, _is_cell),
            _sound(self.voices, MAX_PROCESSES, _is_voice),
            _sound(self.budgets, MAX_NAMES, is_sound),
            _sound(self.rates, MAX_NAMES, _is_count),
        )
        before = self._size()
        self.cells, self.voices, self.budgets, self.rates = kept
        gone = before - self._size()
        if not _is_count(self.version):
            self.version, gone = 0, gone + 1
        if not 0 <= self.alarm_until_ms <= MAX_INSTANT_MS:
            self.alarm_until_ms, gone = 0, gone + 1
        return gone

    def _size(self) -> int:
        return len(self.cells) + len(self.voices) + len(self.budgets) + len(self.rates)

    def _load(self) -> FleetLoad:
        loads = [voice.load for voice in self.voices.values()]
        mean = sum(loads) / len(loads) if loads else 0.0
        return FleetLoad(len(loads), mean, max(loads, default=0.0))

    def _place(self, process: str) -> int | None:
        if process not in self.voices:
            return None
        return sum(other < process for other in self.voices)

    def _evidence(self) -> dict[str, bytes]:
        shown, left = {}, MAX_EVIDENCE_SHOWN
        for process, voice in self.voices.items():
            fits = len(voice.evidence) <= left
            shown[process] = voice.evidence if fits else b""
            left -= len(shown[process])
        return shown

    def _propose(self, proposal: Proposal) -> bool:
        name, expected, value = proposal
        if self.cells.get(name, b"") != expected or len(value) > MAX_CELL_BYTES:
            return False
        if not value:
            return self.cells.pop(name, None) is not None
        if name not in self.cells and len(self.cells) >= MAX_NAMES:
            return False
        self.cells[name] = value
        return True

    def _hear(self, report: FleetReport, now_ms: int) -> None:
        latest_ms = now_ms + MAX_KEEP_MS  # a clock that jumped back begins anew
        self.voices = {
            p: v for p, v in self.voices.items() if now_ms < v.until_ms <= latest_ms
        }
        if self.alarm_until_ms > latest_ms:
            self.alarm_until_ms = 0
        is_known = report.process in self.voices
        is_full = not is_known and len(self.voices) >= MAX_PROCESSES
        if is_full or report.keep_ms <= 0:
            return
        fits = len(report.evidence) <= MAX_EVIDENCE_BYTES
        evidence = report.evidence if fits else b""
        until_ms = now_ms + min(report.keep_ms, MAX_KEEP_MS)
        self.voices[report.process] = LastReport(until_ms, report.load, evidence)
        if report.is_alarmed:
            self.alarm_until_ms = max(self.alarm_until_ms, until_ms)

    def _rate(self, asked: RateWish, now_us: int) -> RateGrant:
        spread_us = self.rates.get(asked.name)
        if spread_us is None and len(self.rates) >= MAX_NAMES:
            return RateGrant(0, asked.interval_us)
        taken = take(asked, spread_us or 0, now_us=now_us)
        self.rates[asked.name] = taken.spread_us
        return RateGrant(taken.calls, taken.wait_us)


def _sound(
    held: Mapping[str, V], most: int, is_ours: Callable[[V], bool]
) -> dict[str, V]:
    if len(held) > most:
        return {}
    return {
        name: value
        for name, value in held.items()
        if len(name) <= MAX_NAME_BYTES and is_ours(value)
    }


def _is_cell(text: bytes) -> bool:
    return len(text) <= MAX_CELL_BYTES


def _is_voice(voice: LastReport) -> bool:
    is_told = 0 <= voice.until_ms <= MAX_INSTANT_MS and 0 <= voice.load <= MAX_LOAD
    return is_told and len(voice.evidence) <= MAX_EVIDENCE_BYTES


def _is_count(number: int) -> bool:
    return 0 <= number <= MAX_COUNT
