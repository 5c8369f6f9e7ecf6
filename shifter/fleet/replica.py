"""The fleet's state as a local replica: read without waiting, renewed by each sync.

A sync (`shifter.fleet.sync`) reports this process's evidence, makes proposals, asks for
retries and calls, and reads the shared state. While the store is away the last view
holds for `TRUST_S`; then circuits go by local evidence. Budgets and rates go by a local
share as soon as a sync failed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from shifter.fleet.breaker import StoreContact
from shifter.fleet.changes import Change, FleetObserver, call_back
from shifter.fleet.endpoints import FleetEndpoints
from shifter.fleet.protection import DependencyProtection, SentReport
from shifter.fleet.shared_state import (
    NO_EVIDENCE,
    QUALITY,
    QUALITY_BY_HAND,
    DependencyReport,
    OverrideCell,
    ProcessReport,
    by_hand_cell,
    circuit_cell,
    evidence_of,
    quality_text,
    read_quality,
    read_setting,
    reports_of,
    state_word,
    words_text,
)
from shifter.model.answer import Quality
from shifter.model.fleet import (
    MAX_LOAD,
    FleetLoad,
    FleetReport,
    FleetView,
    Proposal,
)
from shifter.model.time import EpochMs
from shifter.policy.balance.subset import Place
from shifter.policy.protection.circuit.states import CircuitState
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.fleet_pace import keep_ms
from shifter.policy.protection.quality import QualityPolicy, QualityState, observe
from shifter.ports import Clock
from shifter.runtime.forking import renew_in_child

TRUST_S: Final = 30.0
"""For so long the last view holds while the store does not answer."""

_JUMP_MS: Final = 1_000
"""A larger step of the store's offset is a jump of a clock, not a slow answer."""


class CellOwner(Protocol):
    """Shares something with the fleet in cells of its own."""

    def propose(self) -> Iterable[Proposal]:
        """The cells to be set at the next sync."""

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read all cells; ``now_ms`` is the time by the store's clock."""


class FleetQuality:
    """The quality that the fleet serves at. Belongs to one thread; any may read it.

    Every process applies the same rule to the mean load of the fleet. The first process
    whose rule moves the quality proposes it, and the value of the cell holds for all.

    Args:
        policy: When load lowers it; ``None`` never.

    Attributes:
        by_load: The quality by load, as the fleet agreed.
    """

    def __init__(self, policy: QualityPolicy | None) -> None:
        self._policy = policy
        self._observed = QualityState()
        self._text = b""
        self._by_hand: OverrideCell | None = None
        self.by_load = Quality.FULL

    @property
    def is_by_hand(self) -> bool:
        """Whether an operator has set it; the override may have ended."""
        return self._by_hand is not None

    def in_force(self, store_ms: int) -> Quality:
        """The one set by hand while it lasts, else by load."""
        setting = self._by_hand
        if setting is not None and store_ms < setting.until_ms:
            return Quality(setting.to)
        return self.by_load

    def propose(self, store_ms: int) -> Proposal | None:
        """Propose the quality by load from now on, if it differs from the fleet's."""
        if self._policy is None or self._observed.quality is self.by_load:
            return None
        wanted = quality_text(self._observed.quality, store_ms)
        return Proposal(QUALITY, self._text, wanted)

    def observe(self, load: FleetLoad, now_ms: int) -> None:
        """Apply the rule to the load of all processes."""
        if self._policy is None or not load.processes:
            return
        self._observed = observe(
            self._policy, self._observed, load=load.mean, now_ms=now_ms
        )

    def learn(self, cells: Mapping[str, bytes]) -> int:
        """Read the cells; return how many could not be read."""
        text = cells.get(QUALITY_BY_HAND)
        setting = None if text is None else read_setting(text)
        is_one = setting is not None and setting.to in set(Quality)
        self._by_hand = setting if is_one else None
        before, self._text = self._text, cells.get(QUALITY, b"")
        cell = read_quality(self._text)
        if cell is not None and cell.quality is not self.by_load:
            self.by_load = cell.quality
            self._observed = QualityState(cell.quality)
        is_new = self._text != before
        is_strange = bool(self._text) and cell is None and is_new
        return (text is not None and not is_one) + is_strange


class FleetReplica:
    """The replica of one process. Safe to share between threads.

    Args:
        dependencies: The dependencies that are protected.
        clock: Monotonic.
        process: This process's id.
        observer: Called with each change, before the dependency's own callback.
        quality: When load lowers the quality; ``None`` never.
        seed: Of jitter; ``None`` from the system.

    Attributes:
        protections: The protections, by name of the dependency.
        lock: Held around whatever touches a protection.
        load: How busy this process is; 1 is all there is room for.
        answers: What a service reports of its answers: a report without dependencies.
        synced_at: Monotonic seconds of the last view; ``None`` without one.
        failures: Syncs that failed in a row.
        is_urgent: Whether the next sync should not wait.
        urgent: Called when it becomes urgent, in the thread that noticed it.
        tenants: The owners of other cells.
        endpoints: What the fleet knows of endpoints.
        processes: How many there are, as of the last view; 1 before it.
        highest_load: The highest load of a process, as of the last view.
        place: This process among the live ones, as of the last view; ``None`` without
            one. It stays while the store is away.
        clock: The clock of this process.
    """

    def __init__(  # made in three places, by keyword
        self,
        dependencies: Iterable[Dependency],
        clock: Clock,
        *,
        process: str,
        observer: FleetObserver | None = None,
        quality: QualityPolicy | None = None,
        seed: int | None = None,
    ) -> None:
        self.clock, self._process, self._observer = clock, process, observer
        self.load: Callable[[], float] = lambda: 0.0
        self.answers: Callable[[], ProcessReport] = ProcessReport
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        self._contact = StoreContact()
        self.protections = {
            d.name: DependencyProtection(d, self._random, self._contact)
            for d in dependencies
        }
        self.lock = threading.Lock()
        self._version = 0
        self._offset_ms: int | None = None
        self._peers: int | None = None
        self.synced_at: float | None = None
        self.failures = 0
        self._quality = FleetQuality(quality)
        self.is_urgent = False
        self.urgent: Callable[[], None] | None = None
        self.tenants: list[CellOwner] = []
        self.endpoints = FleetEndpoints(process, clock)
        self.processes, self.highest_load = 1, 0.0
        self.place: Place | None = None
        renew_in_child(self._after_fork)

    def _after_fork(self) -> None:
        # Another thread may have held the lock; the child's replica is not synced.
        self.lock, self.urgent = threading.Lock(), None

    @property
    def quality(self) -> Quality:
        """The one set by hand while it lasts, else by load."""
        quality = self._quality
        if quality.is_by_hand:
            return quality.in_force(self._store_ms())
        return quality.by_load

    @property
    def age_s(self) -> float | None:
        """Seconds since the last view; ``None`` without one."""
        if self.synced_at is None:
            return None
        return self.clock.monotonic() - self.synced_at

    @property
    def skew_s(self) -> float | None:
        """Seconds that the wall clock is ahead of the store's; ``None`` without it."""
        store_ms = self.store_ms()
        return None if store_ms is None else (self.clock.epoch_ms() - store_ms) / 1_000

    def store_ms(self) -> EpochMs | None:
        """Wall clock of the store, milliseconds; ``None`` before its first answer."""
        return None if self._offset_ms is None else EpochMs(self._store_ms())

    def report(self) -> SentReport:
        """The report for the next sync."""
        now_ms, store_ms, sent = self.now_ms(), self.store_ms(), SentReport()
        self.is_urgent = False
        reports: dict[str, DependencyReport] = {}
        for name, protection in self.protections.items():
            report = protection.unchanged_report(now_ms)
            if report is None:
                # One lock per report: a decision waits for one report at most.
                with self.lock:
                    report = sent.add(protection, now_ms, store_ms)
            reports[name] = report
        proposals = [proposal for _, proposal in sent.proposals]
        if (quality := self._quality.propose(store_ms or 0)) is not None:
            proposals.append(quality)
        for tenant in self.tenants:
            proposals += tenant.propose()
        words = self._process_report(reports)
        if store_ms is not None:
            proposals += self.endpoints.propose(store_ms)
        sent.report = FleetReport(
            self._process,
            min(max(0.0, self.load()), MAX_LOAD),
            words_text(words),
            sent.is_alarmed or self.endpoints.is_alarmed,
            keep_ms(self.processes),
            self._version,
            proposals,
            [wish for _, wish in sent.budgets],
            [wish for _, wish in sent.rates],
        )
        return sent

    def learn(self, sent: SentReport, view: FleetView) -> None:
        """Apply the answer to a report."""
        now = self.clock.monotonic()
        now_ms = int(now * 1_000)
        self._set_clock(view.now_ms, now_ms)
        movable: Iterable[DependencyProtection] = self.protections.values()
        if view.cells is None:
            movable = [protection for protection, _ in sent.proposals]
        before = [(protection, protection.circuit.state) for protection in movable]
        with self.lock:
            sent.answered(view, now_ms)
        strange = view.strange
        if view.cells is not None:
            strange += self._learn_cells(view.cells, view.now_ms)
        self._version, self.synced_at, self.failures = view.version, now, 0
        strange += self._hear(view, now_ms)
        self.endpoints.follow()
        self.processes = view.load.processes
        self._settle(peers=view.load.processes)
        self._quality.observe(view.load, now_ms)
        self.highest_load = view.load.highest
        if view.place is not None:
            self.place = Place(view.place, max(self.processes, view.place + 1))
        for change in self._changes(before):
            self._tell(change)
        if strange and self._observer is not None:
            self._observer.found_strange(strange)

    def failed(self, sent: SentReport) -> None:
        """Note that the store did not answer; the proposals are made again."""
        self.failures += 1
        with self.lock:
            for protection, _ in sent.proposals:
                protection.circuit.answered(accepted=False)
        self._settle(peers=None)

    def urge(self, changed: DependencyProtection | None) -> None:
        """Sync at once, so that the other processes learn of a change.

        Args:
            changed: The dependency whose own circuit opened or closed, if one did.
        """
        self.is_urgent = True
        # Read once: the sync may end, in another thread, between two reads.
        if (urgent := self.urgent) is not None:
            urgent()
        if changed is not None:
            state = changed.breaker.own.state
            self._tell(Change(changed.dependency, state, is_fleet=False))

    def _process_report(self, reports: dict[str, DependencyReport]) -> ProcessReport:
        words = msgspec.structs.replace(
            self.answers(), dependencies=reports, endpoints=self.endpoints.reports()
        )
        if words == ProcessReport() or self._offset_ms is None:
            return words
        return msgspec.structs.replace(words, said_ms=self._store_ms())

    def _set_clock(self, store_ms: int, now_ms: int) -> None:
        before, self._offset_ms = self._offset_ms, store_ms - now_ms
        by_ms = 0 if before is None else self._offset_ms - before
        if abs(by_ms) < _JUMP_MS:
            return
        for protection in self.protections.values():
            with self.lock:
                protection.circuit.clock_jumped(store_ms, by_ms)

    def _settle(self, *, peers: int | None) -> None:
        age_s = self.age_s
        is_alone = peers is None and (age_s is None or age_s > TRUST_S)
        self._contact.offset_ms = self._offset_ms or 0
        self._contact.is_alone = is_alone
        if peers == self._peers:
            return
        self._peers = peers
        for protection in self.protections.values():
            with self.lock:
                protection.retries.settle(peers)
                if protection.calls is not None:
                    protection.calls.settle(peers)

    def _learn_cells(self, cells: Mapping[str, bytes], now_ms: int) -> int:
        strange = self._quality.learn(cells)
        strange += self.endpoints.learn(cells, now_ms)
        for tenant in self.tenants:
            tenant.learn(cells, now_ms)
        for name, protection in self.protections.items():
            circuit = protection.circuit
            text = cells.get(by_hand_cell(name))
            setting = None if text is None else read_setting(text)
            with self.lock:
                is_state = circuit.learn(cells.get(circuit_cell(name), b""), now_ms)
                circuit.by_hand = setting
            strange += (not is_state) + (text is not None and setting is None)
        return strange

    def _hear(self, view: FleetView, now_ms: int) -> int:
        if not view.evidence:
            return 0
        reports, strange = reports_of(view.evidence, but=self._process)
        evidence = evidence_of(reports.values())
        for name, protection in self.protections.items():
            peers = evidence.get(name, NO_EVIDENCE)
            with self.lock:
                protection.breaker.weigh(
                    peers.tallies, now_ms=now_ms, causes=peers.causes
                )
            self.is_urgent = self.is_urgent or protection.circuit.is_urgent
        self.is_urgent |= self.endpoints.hear(reports)
        return strange

    def _changes(
        self, before: Iterable[tuple[DependencyProtection, CircuitState]]
    ) -> list[Change]:
        changes = []
        for protection, was in before:
            state = protection.circuit.state
            if state.generation != was.generation:
                with self.lock:
                    protection.breaker.follow()
                changes.append(Change(protection.dependency, state, is_fleet=True))
        return changes

    def _tell(self, change: Change) -> None:
        if self._observer is not None:
            self._observer.circuit_changed(change)
        call_back(change.dependency, state_word(change.state), change.cause)

    def now_ms(self) -> int:
        """The time, by this process's monotonic clock."""
        return int(self.clock.monotonic() * 1_000)

    def _store_ms(self) -> int:
        return self.now_ms() + (self._offset_ms or 0)
