"""The decision over time: windows, threshold and counts around `admission.decide`.

One object a process. It is told the time and what the process measures, and remembers
what a window needs: how much arrived and ended, how long it queued, which classes were
let in and shed. The other rooms only ask and report.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from shifter.model.priority import Priority
from shifter.model.reason import Reason
from shifter.policy.admission.decision import AdmissionPolicy, decide
from shifter.policy.admission.decision_window import DecisionWindow
from shifter.policy.admission.input import DEFER, RUN, AdmissionInput, Decision, Verdict
from shifter.policy.admission.prioritizer import (
    Levels,
    PrioritizerPolicy,
    Signals,
    next_ratio,
)
from shifter.policy.protection.budget import BudgetPolicy

_MOST_WINDOWS: Final = 20
"""After so many windows without a word nothing of the last load is left."""

SHARES: Final = (0.75, 0.9, 1.0, 1.0)
"""Of all slots, by rank: up to here ``LOW`` … ``CRITICAL`` may fill them. The rest is
kept for work that cannot wait: a slot once taken is not given back before its end."""

CALL_RETRIES: Final = BudgetPolicy(ratio=0.1, floor_per_s=1)
"""A tenth: services in a chain multiply load by 1.1 each at most, and not by 1.2.
Source: Beyer et al., "Site Reliability Engineering", chapter 21, retry budgets."""

_CRITICAL: Final = Priority.CRITICAL.rank
_MOST_KEPT: Final = 0.5
_GIVEN_BACK: Final = 0.25
"""Slots given back to the others after a window in which ``CRITICAL`` found its own;
a whole one where nothing had to be turned away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitterPolicy:
    """Settings of a process's admission.

    Attributes:
        admission: The decision's.
        prioritizer: The threshold's.
        shares: Of the slots, by rank, ascending, each above 0 and at most 1.
        lag_limit_ms: Event-loop lag from which on only ``CRITICAL`` is run here.
        retries: How many retries of calls from outside this process bears; a tenth of
            the first calls, and one a second, unless set.
    """

    admission: AdmissionPolicy = field(default_factory=AdmissionPolicy)
    prioritizer: PrioritizerPolicy = field(default_factory=PrioritizerPolicy)
    shares: tuple[float, float, float, float] = SHARES
    lag_limit_ms: float = 500.0
    retries: BudgetPolicy = CALL_RETRIES


@dataclass(slots=True)
class Load:
    """What this process does now; written by who measures it.

    Attributes:
        inflight: Slots taken.
        limit: All slots, >= 1.
        fallbacks: Cheaper answers under way; they have as many slots of their own.
        lag_ms: The event loop's lag, >= 0.
        outside: The worst of the user's own signals; 1 is as much as is well.
    """

    inflight: int = 0
    limit: int = 1
    fallbacks: int = 0
    lag_ms: float = 0.0
    outside: float = 0.0


class Admitter:
    """Decides for one process. Owned by one thread at a time.

    Args:
        policy: The settings.
        limit: Slots there are, >= 1.
        now: Monotonic seconds.

    Attributes:
        load: What this process does, kept up to date by who measures it.
        ratio: Share of arrivals turned away now.
        threshold: The level below which nothing is run here.
        slots: How many a job may fill, by rank.
        until: When it is time for the next window, monotonic seconds.
    """

    def __init__(self, policy: AdmitterPolicy, *, limit: int, now: float) -> None:
        self.policy, self.load = policy, Load(limit=limit)
        self._kept, self._is_short = 0.0, False
        self.slots = self._shared()
        self._levels = Levels(policy.prioritizer)
        self._window = DecisionWindow()
        self._length_s = policy.prioritizer.window_ms / 1_000
        self.until = now + self._length_s
        self._arrived = self._started = self._ended = 0
        self._queued_s = 0.0
        self.ratio, self.threshold = 0.0, 0
        self._runs = [0] * len(Priority)
        self._others: Counter[tuple[int, Verdict, Reason]] = Counter()

    @property
    def window(self) -> int:
        """Number of the window that is open."""
        return self._window.number

    def counts(self) -> Counter[tuple[int, Verdict, Reason]]:
        """How often each (rank, verdict, reason) was decided."""
        runs = {
            (rank, Verdict.RUN, Reason.ACCEPTED): count
            for rank, count in enumerate(self._runs)
            if count
        }
        return self._others + Counter(runs)

    def look(self, case: AdmissionInput, queue: str) -> None:
        """Write into a case what is known here: slots, window, threshold."""
        window, load, slots = self._window, self.load, self.slots[case.rank]
        case.threshold, case.floor = self.threshold, window.floor
        case.lane_floor = window.floor_of(queue)
        case.free, case.limit = slots - load.inflight, slots
        case.fallbacks_free = load.limit - load.fallbacks
        case.lag_ms, case.lag_limit_ms = load.lag_ms, self.policy.lag_limit_ms

    def decide(self, case: AdmissionInput, queue: str) -> Decision:
        """Decide, and remember what the window needs."""
        decision = decide(self.policy.admission, case)
        if case.runs_here and case.waits_for is None:
            self._arrived += case.level >= self.threshold
            self._levels.record(case.level)
        verdict, rank, window = decision.verdict, case.rank, self._window
        if verdict is RUN:
            # Most are: counted apart, since hashing members takes half a microsecond.
            self._runs[rank] += 1
            self._started += 1
            self._queued_s += case.queued_s
            window.ran(rank)
            return decision
        self._others[rank, verdict, decision.reason] += 1
        if rank == _CRITICAL and case.free <= 0:
            self._is_short = True
        if verdict is DEFER:
            window.deferred(queue, rank)
        elif decision.is_want_of_room:
            window.shed(queue, rank)
        return decision

    def refused(self, queue: str, priority: Priority) -> None:
        """Note that the log had no room for a job that was to be deferred."""
        self._window.shed(queue, priority.rank)

    def ended(self) -> None:
        """Note the end of a job that ran here."""
        self._ended += 1

    def roll(self, *, now: float) -> None:
        """Begin the next window if it is time; to be called before each decision."""
        if now < self.until:
            return
        load = self.load
        passed = min(_MOST_WINDOWS, 1 + int((now - self.until) / self._length_s))
        self.until = max(self.until + passed * self._length_s, now)
        free = max(0, load.limit - load.inflight)
        queueing_ms = self._queued_s * 1_000 / max(1, self._started)
        signals = Signals(
            self._arrived,
            self._ended,
            free,
            load.limit,
            queueing_ms,
            load.lag_ms,
            load.outside,
        )
        prioritizer = self.policy.prioritizer
        ratio = next_ratio(prioritizer, self.ratio, signals)
        for _ in range(passed - 1):
            ratio = next_ratio(prioritizer, ratio, Signals(0, 0, free, load.limit))
        self.ratio, self.threshold = ratio, self._levels.threshold(ratio)
        self._keep(passed)
        self._arrived = self._started = self._ended = 0
        self._queued_s = 0.0
        self._window.roll()

    def _keep(self, windows: int) -> None:
        """One slot more for ``CRITICAL`` alone after each window that had none left.

        Where all that comes is urgent, shares alone would leave it to chance who finds
        a slot: the most urgent is shed last.
        """
        most = self.load.limit * _MOST_KEPT
        less = _GIVEN_BACK if self.ratio else 1.0
        change = 1.0 if self._is_short else -less * windows
        self._kept, self._is_short = min(most, max(0.0, self._kept + change)), False
        self.slots = self._shared()

    def _shared(self) -> list[int]:
        limit = self.load.limit
        kept = math.ceil(self._kept)
        most = [limit - kept] * _CRITICAL + [limit]
        return [
            max(1, min(int(limit * share), bound))
            for share, bound in zip(self.policy.shares, most, strict=True)
        ]
