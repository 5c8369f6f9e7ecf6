"""Endpoints that the fleet ejects together, and those that an operator drained.

Each process reports what it sees of the endpoints of its dependencies. A process that
ejected one by itself has a vote against it. Where enough processes vote, the first one
that finds so ejects the endpoint for all, in a cell: the quorum is that of circuits
(`shifter.policy.protection.circuit.evidence.has_quorum`), so one process alone, whose
network is broken or who lies, ejects an endpoint for itself only.

Votes by calls and votes by health checks are counted apart: a server that is about to
stop fails its health checks on purpose while it still answers calls. One process sends
the health checks for all, by a lease. When it votes, a few others check the same
endpoint, so that its finding is confirmed or stays its own.

While the store is away, what a process knows by itself goes on, and what it learnt of
the fleet holds until its end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from shifter.fleet.check_lease import holder, wanted_lease
from shifter.fleet.endpoint_cells import (
    EjectionCell,
    EndpointCell,
    EndpointReport,
    endpoint_of,
    read_ejection,
)
from shifter.fleet.endpoint_votes import KINDS, questioned, rank, votes_of
from shifter.fleet.shared_state import ProcessReport, read_setting
from shifter.model.fleet import Proposal
from shifter.policy.balance.mark import Mark, MarkKind
from shifter.policy.protection.circuit.evidence import has_quorum
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Clock
from shifter.wire.untrusted import printable

CHECK_KEEP_MS: Final = 30_000
"""How long failed health checks hold for the fleet, unless they are renewed."""

_REPORT_KEPT_S: Final = 1.0
"""How long the report of the endpoints is sent again unchanged."""

_ALARM_MS, _ALARM_EVERY_MS = 10_000, 60_000
"""A vote asks for all reports for so long, and again each minute while it stands."""

_CONFIRMING: Final = 3
"""Processes that check an endpoint where one found it ill, itself included."""

_ASKED_S: Final = 15.0
"""How long a process goes on to confirm after it last heard of the vote."""

_MOST_SHARED: Final = 64
"""Endpoints of one dependency that the fleet ejects at once, at most."""

_CLEARED: Final = 8
"""Cells that ended and are removed by one sync, at most."""


class EndpointGroup(Protocol):
    """The endpoints of one dependency in this process."""

    has_checks: bool

    def reports(self, now: float) -> list[EndpointReport]:
        """What is seen of them; those in question come first."""

    def counts(self, now: float) -> Mapping[str, int]:
        """How many endpoints there are, by state."""

    def follow(self, marks: Mapping[MarkKind, Mapping[str, Mark]], now: float) -> None:
        """Take over what the fleet agreed on, by kind and URL."""

    def next_times(self, url: str, now: float) -> int:
        """How often an endpoint was ejected, if it is ejected now."""


class _Joined(NamedTuple):
    dependency: Dependency
    group: EndpointGroup


class FleetEndpoints:
    """What the fleet knows of endpoints, in one process.

    Endpoints join from any thread; all else belongs to the thread that syncs.

    Args:
        process: This process's id.
        clock: Monotonic.
    """

    def __init__(self, process: str, clock: Clock) -> None:
        self._process, self._clock = process, clock
        self._joined: dict[str, _Joined] = {}
        self._reports: dict[str, list[EndpointReport]] = {}
        self._reported_at = -_REPORT_KEPT_S
        self._cells: dict[str, bytes] = {}
        self._marks: dict[str, dict[MarkKind, dict[str, Mark]]] = {}
        self._store_ahead_ms = 0
        self._decided: dict[EndpointCell, EndpointReport] = {}
        self._ended: list[str] = []
        self._asked: dict[tuple[str, str], float] = {}

    def join(self, dependency: Dependency, group: EndpointGroup) -> None:
        """Share what is known of the endpoints of a dependency from now on."""
        name = dependency.name
        known = self._joined.get(name)
        if known is None or known.group is not group:
            self._joined[name] = _Joined(dependency, group)
            self._reported_at = -_REPORT_KEPT_S
            group.follow(self._marks.get(name, {}), self._clock.monotonic())

    def group(self, dependency: str) -> EndpointGroup | None:
        """The endpoints of a dependency; ``None`` if they have not joined."""
        joined = self._joined.get(dependency)
        return None if joined is None else joined.group

    def reports(self) -> dict[str, list[EndpointReport]]:
        """The report of this process, by dependency."""
        now = self._clock.monotonic()
        if now - self._reported_at >= _REPORT_KEPT_S:
            self._reported_at = now
            self._reports = {
                name: rows
                for name, (_, group) in list(self._joined.items())
                if (rows := group.reports(now))
            }
        return self._reports

    def counts(self) -> dict[str, Mapping[str, int]]:
        """How many endpoints there are, by dependency and state. From any thread."""
        now, found = self._clock.monotonic(), dict[str, Mapping[str, int]]()
        for name, (_, group) in list(self._joined.items()):
            found[name] = group.counts(now)
        return found

    @property
    def is_alarmed(self) -> bool:
        """Whether the reports of all processes are needed."""
        return any(
            row.out_ms % _ALARM_EVERY_MS < _ALARM_MS or self._is_ending(name, row.url)
            for name, rows in self._reports.items()
            for row in rows
            if row.vote
        )

    def _is_ending(self, dependency: str, url: str) -> bool:
        """Whether a finding of health checks ends soon, unless it is renewed."""
        kinds = self._marks.get(dependency, {})
        known = kinds.get(MarkKind.CHECKS, {}).get(url)
        left_s = math.inf if known is None else known.until - self._clock.monotonic()
        return left_s < CHECK_KEEP_MS / 2_000

    def leads(self, dependency: str) -> bool:
        """Whether this process sends the health checks of a dependency for all."""
        store_ms = self._mono_ms() + self._store_ahead_ms
        return holder(self._cells, dependency, store_ms) == self._process

    def must_confirm(self, dependency: str, url: str) -> bool:
        """Whether this process checks an endpoint since another one found it ill."""
        until = self._asked.get((dependency, url))
        return until is not None and self._clock.monotonic() < until

    def propose(self, store_ms: int) -> list[Proposal]:
        """The cells to be set at the next sync.

        Args:
            store_ms: The time, by the store's clock.
        """
        self._store_ahead_ms = store_ms - self._mono_ms()
        proposals = [Proposal(cell, self._cells[cell], b"") for cell in self._ended]
        decided, self._decided = self._decided, {}
        for cell, told in decided.items():
            proposals.append(self._ejection(cell, told, store_ms))
        for name, (_, group) in list(self._joined.items()):
            if not group.has_checks:
                continue
            lease = wanted_lease(self._cells, name, self._process, store_ms)
            if lease is not None:
                proposals.append(lease)
        return proposals

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> int:
        """Read all cells; return how many could not be read.

        Args:
            cells: All cells of the fleet.
            now_ms: The time, by the store's clock.
        """
        self._store_ahead_ms = now_ms - self._mono_ms()
        self._cells = {
            name: text for name, text in cells.items() if "endpoint/" in name
        }
        self._marks, self._ended, strange = {}, [], 0
        for name, text in self._cells.items():
            cell = endpoint_of(name)
            if cell is None:
                continue
            mark = self._mark(cell, text, now_ms)
            strange += mark is None
            if mark is None or mark.until <= self._clock.monotonic():
                self._ended.append(name)
                continue
            kinds = self._marks.setdefault(cell.dependency, {})
            kinds.setdefault(cell.kind, {})[cell.url] = mark
        self._ended = self._ended[:_CLEARED]
        return strange

    def follow(self) -> None:
        """Hand what the fleet agreed on to the endpoints."""
        now = self._clock.monotonic()
        self._clear(now)
        for name, (_, group) in list(self._joined.items()):
            group.follow(self._marks.get(name, {}), now)

    def hear(self, reports: Mapping[str, ProcessReport]) -> bool:
        """Weigh the reports of the other processes, by process.

        Returns:
            Whether there is something to propose.
        """
        for name, (dependency, group) in list(self._joined.items()):
            own = {row.url: row for row in self._reports.get(name, ())}
            others = {
                process: {row.url: row for row in report.endpoints[name]}
                for process, report in reports.items()
                if report.endpoints.get(name)
            }
            for url in questioned(own, others):
                rows = [own.get(url), *(known.get(url) for known in others.values())]
                for kind, word in KINDS.items():
                    self._weigh(dependency, EndpointCell(kind, name, url), word, rows)
                if group.has_checks:
                    self._confirm(name, url, others)
        return bool(self._decided)

    def _weigh(
        self,
        dependency: Dependency,
        cell: EndpointCell,
        word: str,
        rows: Sequence[EndpointReport | None],
    ) -> None:
        """Decide to eject an endpoint for all, if a quorum votes for it."""
        voting = [row for row in rows if row is not None and row.vote == word]
        if not voting or self._is_settled(dependency, cell, rows[0]):
            return
        if has_quorum(dependency.evidence, votes_of(rows, word)):
            own = rows[0]
            is_ours = own is not None and own.vote == word
            self._decided[cell] = own if own is not None and is_ours else voting[0]

    def _is_settled(
        self, dependency: Dependency, cell: EndpointCell, own: EndpointReport | None
    ) -> bool:
        """Whether nothing is to be proposed now, whatever the votes are."""
        kinds = self._marks.get(cell.dependency, {})
        known = kinds.get(cell.kind, {}).get(cell.url)
        now = self._clock.monotonic()
        if known is not None and known.until > now:
            # Only failed checks are renewed, by a process that sends them.
            is_renewed = cell.kind is MarkKind.CHECKS and own is not None and own.vote
            return not (is_renewed and self._is_ending(cell.dependency, cell.url))
        ejected = {
            url
            for kind in KINDS
            for url, mark in kinds.get(kind, {}).items()
            if mark.until > now
        }
        known_here = len(self._reports.get(cell.dependency, ()))
        most = dependency.balance.ejection.most_ejected(known_here)
        return cell.url not in ejected and len(ejected) >= min(_MOST_SHARED, most)

    def _confirm(
        self,
        name: str,
        url: str,
        others: Mapping[str, Mapping[str, EndpointReport]],
    ) -> None:
        """Check an endpoint that another process's checks found ill, if it is our turn.

        The order of processes differs from endpoint to endpoint, and is the same in
        every process.
        """
        voting = {
            process
            for process, rows in others.items()
            if url in rows and rows[url].vote == "checks"
        }
        if not voting:
            return
        everyone = (*others, self._process)
        first = sorted(everyone, key=lambda one: rank(one, url))[:_CONFIRMING]
        if self._process in first:
            now = self._clock.monotonic()
            self._asked = {key: end for key, end in self._asked.items() if end > now}
            self._asked[name, url] = now + _ASKED_S

    def withdraw(self, dependency: str, url: str) -> None:
        """End the fleet's finding of failed health checks: they succeed again."""
        cell = EndpointCell(MarkKind.CHECKS, dependency, url).name
        if cell in self._cells and cell not in self._ended:
            self._ended.append(cell)

    def _ejection(
        self, cell: EndpointCell, told: EndpointReport, store_ms: int
    ) -> Proposal:
        held = self._cells.get(cell.name, b"")
        before = read_ejection(held)
        since_ms, lasts_ms, times = store_ms, CHECK_KEEP_MS, 1
        if cell.kind is MarkKind.FLEET:
            joined = self._joined[cell.dependency]
            times = joined.group.next_times(cell.url, self._clock.monotonic())
            times = min(times, 1_000)
            dependency = joined.dependency
            cooldown_ms = min(told.cooldown_ms, _longest_rule_ms(dependency))
            ejection = dependency.balance.ejection
            lasts_ms = int(ejection.lasts_s(times, cooldown_ms) * 1_000)
        elif before is not None and before.until_ms > store_ms:
            since_ms = min(before.since_ms, store_ms)
        made = EjectionCell(
            since_ms, store_ms + lasts_ms, times, printable(told.why, 200)
        )
        return Proposal(cell.name, held, msgspec.json.encode(made))

    def _mark(self, cell: EndpointCell, text: bytes, now_ms: int) -> Mark | None:
        """What a cell says, by this process's clock; ``None`` if it cannot be read."""
        if cell.kind is MarkKind.DRAIN:
            setting = read_setting(text)
            if setting is None or setting.to != "drained":
                return None
            why = printable(f"drained by {setting.owner}: {setting.reason}", 200)
            return Mark(self._at(setting.until_ms), why)
        found = read_ejection(text)
        if found is None:
            return None
        longest_ms = CHECK_KEEP_MS
        if cell.kind is MarkKind.FLEET:
            joined = self._joined.get(cell.dependency)
            # A store with a wrong clock takes an endpoint away for no longer than this
            # process would itself.
            longest_ms = 300_000
            if joined is not None:
                most_ms = joined.dependency.balance.ejection.most_ms
                longest_ms = max(most_ms, _longest_rule_ms(joined.dependency))
        until_ms = min(found.until_ms, now_ms + longest_ms)
        return Mark(self._at(until_ms), printable(found.why, 200), found.times)

    def _clear(self, now: float) -> None:
        """Forget marks that have ended; their cells are removed at the next sync."""
        ended = [
            EndpointCell(kind, name, url)
            for name, kinds in self._marks.items()
            for kind, marks in kinds.items()
            for url, mark in marks.items()
            if mark.until <= now
        ]
        for cell in ended:
            del self._marks[cell.dependency][cell.kind][cell.url]
        self._ended += [cell.name for cell in ended if cell.name not in self._ended]

    def _mono_ms(self) -> int:
        return int(self._clock.monotonic() * 1_000)

    def _at(self, store_ms: int) -> float:
        """An instant of the store's clock, in monotonic seconds."""
        return (store_ms - self._store_ahead_ms) / 1_000


def _longest_rule_ms(dependency: Dependency) -> int:
    return max(dependency.cooldowns_ms.values(), default=0)
