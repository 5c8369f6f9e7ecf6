"""Admission of one process over time: windows, threshold and counts.

`Admitter` is one object a process. It is given the time and the process's measurements,
and keeps what a decision needs from the past: arrivals and ends, queueing times, and
which priorities were admitted and shed in the window that is open.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.admission.decision import decide
from shifter.policy.admission.input import (
    DEFER,
    RUN,
    AdmissionInput,
    Decision,
    Load,
    Verdict,
)
from shifter.policy.admission.lane_outlook import OutlookPolicy
from shifter.policy.admission.prioritizer import (
    Levels,
    PrioritizerPolicy,
    Signals,
    next_ratio,
)
from shifter.policy.admission.shares import SLOT_SHARES, SlotShares
from shifter.policy.protection.budget import BudgetPolicy

_MOST_WINDOWS: Final = 20
"""Windows without an arrival after which nothing of the last load is left.

An idle window takes the gain (a half) times the largest relief (a half) off the ratio,
so a ratio of 0.95 is back at 0 after four windows; more are not computed.
"""

CALL_RETRIES: Final = BudgetPolicy(ratio=0.1, floor_per_s=1)
"""A tenth: services in a chain multiply load by 1.1 each at most, and not by 1.2.
Source: Beyer et al., "Site Reliability Engineering", chapter 21, retry budgets."""

_CRITICAL: Final = Priority.CRITICAL.rank
_NO_RANK: Final = len(Priority)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """Settings of a process's admission.

    Attributes:
        outlook: How the wait on a lane is estimated.
        prioritizer: How the threshold of levels is set.
        shares: Of the slots, by rank, ascending, each above 0 and at most 1.
        lag_limit_ms: Event-loop lag from which on only ``CRITICAL`` is run here.
        retries: How many retries of calls from outside this process admits; a tenth of
            the first calls, and one a second, unless set.
        is_dark: Decide and count, but run everything here.
    """

    outlook: OutlookPolicy = field(default_factory=OutlookPolicy)
    prioritizer: PrioritizerPolicy = field(default_factory=PrioritizerPolicy)
    shares: tuple[float, float, float, float] = SLOT_SHARES
    lag_limit_ms: float = 500.0
    retries: BudgetPolicy = CALL_RETRIES
    is_dark: bool = False


class DecisionWindow:
    """Keeps a priority from being shed while a lower one is admitted.

    Decisions are taken one by one, so a ``LOW`` job may get the last slot a moment
    before a ``HIGH`` one has to be shed. A window ends after its time, or *at once*
    when a job is about to be shed after a lower priority was admitted within the
    window; the window that begins with that refusal admits no lower priority until
    its end. So within one window the rule holds, whatever the order of arrivals.

    The rule has two scopes. A job that runs here takes a slot of this process,
    whichever queue it belongs to: after a shed, no lower priority is *run*. A deferred
    job takes only its own queue's workers: after a shed, no lower priority is
    *deferred* to that queue.

    Attributes:
        number: The number of the window, which grows with each.
        floor: The highest rank shed for want of room, -1 if none; no lower rank is run.
    """

    __slots__ = ("_deferred", "_floors", "_ran", "floor", "number")

    def __init__(self) -> None:
        self.number = 0
        self.roll()

    def roll(self) -> None:
        """Begin the next window."""
        self.number += 1
        self.floor = -1
        self._ran = _NO_RANK
        self._floors: dict[str, int] = {}
        self._deferred: dict[str, int] = {}

    def floor_of(self, queue: str) -> int:
        """The highest rank shed of a queue, -1 if none."""
        return self._floors.get(queue, -1)

    def ran(self, rank: int) -> None:
        """Note that a job of this rank is run here."""
        if rank < self._ran:  # noqa: PLR1730  # half the price, in each decision
            self._ran = rank

    def deferred(self, queue: str, rank: int) -> None:
        """Note that a job of this rank is deferred to the queue."""
        if rank < self._deferred.get(queue, _NO_RANK):
            self._deferred[queue] = rank

    def shed(self, queue: str, rank: int) -> None:
        """Note that a job is shed for want of room; this may begin a new window."""
        if self._ran < rank or self._deferred.get(queue, _NO_RANK) < rank:
            self.roll()
        self.floor = max(self.floor, rank)
        self._floors[queue] = max(self.floor_of(queue), rank)


class Admitter:
    """Decides for one process. Belongs to one thread at a time.

    Args:
        policy: The settings.
        limit: Slots there are, >= 1.
        now: Monotonic seconds.

    Attributes:
        load: What this process does; the caller keeps it up to date.
        ratio: Share of arrivals turned away now.
        threshold: The level below which nothing is run here.
        until: When it is time for the next window, monotonic seconds.
    """

    def __init__(self, policy: AdmissionPolicy, *, limit: int, now: float) -> None:
        self.policy, self.load = policy, Load(limit=limit)
        self._shares = SlotShares(policy.shares, limit)
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
    def slots(self) -> list[int]:
        """How many slots a job may fill, by rank."""
        return self._shares.slots

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
        """Fill in what is known here: slots, window, threshold."""
        window, load = self._window, self.load
        slots = self._shares.slots[case.rank]
        case.threshold, case.floor = self.threshold, window.floor
        case.lane_floor = window.floor_of(queue)
        case.free, case.limit = slots - load.inflight, slots
        case.fallbacks_free = load.limit - load.fallbacks
        case.lag_ms, case.lag_limit_ms = load.lag_ms, self.policy.lag_limit_ms

    def decide(self, case: AdmissionInput, queue: str) -> Decision:
        """Decide, and remember what the window needs."""
        decision = decide(self.policy.outlook, case)
        if case.runs_here and case.waits_for is None:
            self._arrived += case.level >= self.threshold
            self._levels.record(case.level)
        verdict, rank, window = decision.verdict, case.rank, self._window
        if verdict is RUN:
            # Most decisions are RUN: counted by index, since hashing the members of the
            # counter's key takes half a microsecond.
            self._runs[rank] += 1
            self._started += 1
            self._queued_s += case.queued_s
            window.ran(rank)
            return decision
        self._others[rank, verdict, decision.reason] += 1
        if rank == _CRITICAL and case.free <= 0:
            self._shares.is_short = True
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
        self._shares.roll(windows=passed, is_overloaded=ratio > 0)
        self._arrived = self._started = self._ended = 0
        self._queued_s = 0.0
        self._window.roll()
