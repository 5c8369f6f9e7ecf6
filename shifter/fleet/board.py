"""What one process knows of its fleet: read without waiting, told once a sync.

While the store is away the last view holds for `TRUST_S`; then circuits go by local
evidence. Budgets and rates go by a local share as soon as a sync failed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from shifter.fleet.cells import (
    QUALITY,
    QUALITY_BY_HAND,
    Setting,
    by_hand_cell,
    circuit_cell,
    quality_text,
    read_quality,
    read_setting,
    state_word,
)
from shifter.fleet.shield import Shield
from shifter.fleet.statement import Statements, read_statements, statements_text
from shifter.model.fleet import (
    BudgetWish,
    FleetReport,
    FleetView,
    Proposal,
    RateWish,
)
from shifter.model.quality import Quality
from shifter.policy.circuit import CircuitState
from shifter.policy.dependency import Dependency
from shifter.policy.evidence import Tally
from shifter.policy.quality import QualityPolicy, QualityState, observe
from shifter.ports import Clock

TRUST_S: Final = 30.0
KEEP_MS: Final = 2_000


class Change(NamedTuple):
    """A circuit changed, as this process learnt.

    Attributes:
        dependency: Whose.
        state: Its new state.
        is_fleet: Whether the fleet's; else this process's own.
    """

    dependency: Dependency
    state: CircuitState
    is_fleet: bool


class Told(NamedTuple):
    """A report with what is needed to understand its answer."""

    report: FleetReport
    proposers: list[Shield]
    savers: list[Shield]
    callers: list[Shield]


class FleetBoard:
    """See above. Safe to share between threads.

    Args:
        dependencies: What is protected.
        clock: Monotonic.
        process: This process's id.
        changed: Called with each change, in the thread that learns of it; then the
            dependency's own callback is.
        load: How busy this process is; 1 is all there is room for.
        quality: When load lowers the quality; ``None`` never.
        seed: Of jitter; ``None`` from the system.

    Attributes:
        shields: By name of the dependency.
        quality: To serve at, now.
        synced_at: Monotonic seconds of the last view; ``None`` without one.
        failures: Syncs that failed in a row.
        is_urgent: Whether the next sync should not wait.
        urgent: Called when it becomes so, in the thread of whoever calls.
    """

    def __init__(  # noqa: PLR0913  # made in three places, by keyword
        self,
        dependencies: Iterable[Dependency],
        clock: Clock,
        *,
        process: str,
        changed: Callable[[Change], None] | None = None,
        load: Callable[[], float] = lambda: 0.0,
        quality: QualityPolicy | None = None,
        seed: int | None = None,
    ) -> None:
        self._clock, self._process = clock, process
        self._changed, self.load = changed, load
        self._random = random.Random(seed)  # noqa: S311  # jitter, no secret
        self.shields = {d.name: Shield(d, self._random) for d in dependencies}
        self._lock = threading.Lock()
        self._version = 0
        self._offset_ms: int | None = None
        self.synced_at: float | None = None
        self.failures = 0
        self._policy = quality
        self._observed = QualityState()
        self._quality_text = b""
        self._by_hand: Setting | None = None
        self.by_load = Quality.FULL
        self.is_urgent = False
        self.urgent: Callable[[], None] | None = None

    @property
    def lock(self) -> threading.Lock:
        """Held around whatever touches a shield."""
        return self._lock

    @property
    def quality(self) -> Quality:
        """The one set by hand while it lasts, else by load."""
        setting = self._by_hand
        if setting is not None and self._store_ms() < setting.until_ms:
            return Quality(setting.to)
        return self.by_load

    @property
    def age_s(self) -> float | None:
        """Seconds since the last view; ``None`` without one."""
        if self.synced_at is None:
            return None
        return self._clock.monotonic() - self.synced_at

    def report(self) -> Told:
        """What is told at the next sync."""
        now_ms = int(self._clock.monotonic() * 1_000)
        store_ms, draw = self._store_ms(), self._random.random
        with self._lock:
            self.is_urgent = False
            said: Statements = {}
            told = Told(_NOTHING, [], [], [])
            proposals: list[Proposal] = []
            budgets: list[BudgetWish] = []
            rates: list[RateWish] = []
            is_alarmed = False
            for name, shield in self.shields.items():
                said[name] = shield.statement(now_ms)
                is_alarmed = is_alarmed or shield.is_suspicious(now_ms)
                if self._offset_ms is not None and (
                    proposal := shield.circuit.propose(store_ms, draw())
                ):
                    proposals.append(proposal)
                    told.proposers.append(shield)
                if (saved := shield.retries.wish(now_ms)) is not None:
                    budgets.append(saved)
                    told.savers.append(shield)
                if shield.calls is not None and (called := shield.calls.wish(now_ms)):
                    rates.append(called)
                    told.callers.append(shield)
            if (quality := self._observe()) is not None:
                proposals.append(quality)
        report = FleetReport(
            self._process,
            max(0.0, self.load()),
            statements_text(said),
            is_alarmed,
            KEEP_MS,
            self._version,
            proposals,
            budgets,
            rates,
        )
        return told._replace(report=report)

    def learn(self, told: Told, view: FleetView) -> None:
        """Take in the answer to a report."""
        now = self._clock.monotonic()
        now_ms = int(now * 1_000)
        with self._lock:
            self._offset_ms = view.now_ms - now_ms
            before = {n: s.circuit.state for n, s in self.shields.items()}
            for shield, accepted in zip(told.proposers, view.accepted, strict=False):
                shield.circuit.answered(accepted=accepted)
            for shield, asked, granted in zip(
                told.savers, told.report.budgets, view.granted, strict=True
            ):
                shield.retries.granted(asked, granted, now_ms)
            for shield, grant in zip(told.callers, view.rates, strict=True):
                if shield.calls is not None:
                    shield.calls.granted(grant, now_ms)
            if view.cells is not None:
                self._learn_cells(view.cells, view.now_ms)
            self._version, self.synced_at, self.failures = view.version, now, 0
            self._hear(view, now_ms)
            self._settle(alone=False, peers=len(view.loads))
            if self._policy is not None and view.loads:
                self._observed = observe(
                    self._policy,
                    self._observed,
                    load=sum(view.loads) / len(view.loads),
                    now_ms=now_ms,
                )
            changes = self._changes(before)
        for change in changes:
            self._tell(change)

    def failed(self, told: Told) -> None:
        """The store did not answer: what was asked is asked again."""
        with self._lock:
            self.failures += 1
            for shield in told.proposers:
                shield.circuit.answered(accepted=False)
            self._settle(alone=True, peers=None)

    def urge(self, changed: Shield | None) -> None:
        """The others should hear of something at once.

        Args:
            changed: Whose circuit this process opened or closed for itself, if any.
        """
        self.is_urgent = True
        if self.urgent is not None:
            self.urgent()
        if changed is not None:
            state = changed.own_state
            self._tell(Change(changed.dependency, state, is_fleet=False))

    def _settle(self, *, alone: bool, peers: int | None) -> None:
        age_s = self.age_s
        for shield in self.shields.values():
            shield.offset_ms = self._offset_ms or 0
            shield.is_alone = alone and (age_s is None or age_s > TRUST_S)
            for till in (shield.retries, shield.calls):
                if till is not None:
                    till.is_alone = alone
                    till.share = till.share if peers is None else max(1, peers)

    def _learn_cells(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        for name, shield in self.shields.items():
            circuit = shield.circuit
            circuit.learn(cells.get(circuit_cell(name), b""), now_ms)
            by_hand = cells.get(by_hand_cell(name))
            circuit.by_hand = None if by_hand is None else read_setting(by_hand)
        by_hand = cells.get(QUALITY_BY_HAND)
        setting = None if by_hand is None else read_setting(by_hand)
        words = set(Quality)
        self._by_hand = setting if setting is None or setting.to in words else None
        self._quality_text = cells.get(QUALITY, b"")
        quality = read_quality(self._quality_text)
        if quality is not None and quality is not self.by_load:
            self.by_load = quality
            self._observed = QualityState(quality)

    def _observe(self) -> Proposal | None:
        """What load says now, if that is news."""
        if self._policy is None or self._observed.quality is self.by_load:
            return None
        text = quality_text(self._observed.quality)
        return Proposal(QUALITY, self._quality_text, text)

    def _hear(self, view: FleetView, now_ms: int) -> None:
        if not view.evidence:
            return
        said: dict[str, list[Tally]] = {}
        for process, text in view.evidence.items():
            if process == self._process:
                continue
            for name, words in read_statements(text).items():
                if name in self.shields and words.calls:
                    said.setdefault(name, []).append(words.tally)
        for name, shield in self.shields.items():
            shield.hear(said.get(name, []), now_ms=now_ms)
            self.is_urgent = self.is_urgent or shield.circuit.is_urgent

    def _changes(self, before: dict[str, CircuitState]) -> list[Change]:
        changes = []
        for name, shield in self.shields.items():
            state = shield.circuit.state
            if state.generation != before[name].generation:
                shield.follow()
                changes.append(Change(shield.dependency, state, is_fleet=True))
        return changes

    def _tell(self, change: Change) -> None:
        if self._changed is not None:
            self._changed(change)
        heard = change.dependency.on_change
        if heard is not None:
            heard(change.dependency.name, state_word(change.state))

    def _store_ms(self) -> int:
        return int(self._clock.monotonic() * 1_000) + (self._offset_ms or 0)


_NOTHING: Final = FleetReport("", 0.0, b"", is_alarmed=False, keep_ms=1, version=0)
