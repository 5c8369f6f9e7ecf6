"""What this process knows, put before the decision.

Nothing here waits: slots and the loop's lag are measured in the process, lanes and
dependencies are views that others keep fresh.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from shifter.ambient import ambient
from shifter.model.job import Isolation, JobSpec
from shifter.model.priority import Priority
from shifter.model.quality import Quality
from shifter.model.reason import Reason
from shifter.policy.admission import Finding, explain
from shifter.policy.admitter import Admitter, AdmitterPolicy, Load
from shifter.policy.calendar import is_open
from shifter.policy.case import Asked, Case, Decision, Needs, Verdict
from shifter.policy.lane_outlook import LaneFacts
from shifter.policy.prioritizer import level_of
from shifter.ports import Clock
from shifter.produce.loop_lag import LoopLag
from shifter.produce.options import CallPlan

_WELL: Final = Needs()
_IN_THE_DARK: Final = Decision(Verdict.RUN, Reason.ACCEPTED)


class LaneView(Protocol):
    """What is known of lanes, without asking anybody."""

    def facts(self, lane: str) -> LaneFacts | None:
        """Of a lane; ``None`` when nothing is known."""

    def deferred(self, lane: str) -> None:
        """Count a job of this process until the next look at the lane."""


class Views(NamedTuple):
    """What the decision sees of the world.

    Attributes:
        lanes: Of the fleet; ``None`` where nobody looks.
        needs: What the dependencies of a job say.
        calling: Notes what a block that runs a job says of its dependency.
    """

    lanes: LaneView | None = None
    needs: Callable[[JobSpec], Needs] = lambda _: _WELL
    calling: Callable[[JobSpec, Priority], AbstractContextManager[None]] = lambda *_: (
        contextlib.nullcontext()
    )


class Tallied(NamedTuple):
    """How often something was decided.

    Attributes:
        priority: Of the jobs.
        verdict: What was done, or in the dark would have been.
        reason: Why.
        times: How often.
        ratio: Share of all jobs of that priority.
    """

    priority: Priority
    verdict: Verdict
    reason: Reason
    times: int
    ratio: float


class Admission:
    """Admission of one process. Safe to share between threads.

    Args:
        policy: The settings.
        clock: Monotonic and wall time.
        limit: Slots: jobs run here at once, >= 1.
        views: What is known of the world.
        seed: Seeds the draws; ``None`` from the system.

    Attributes:
        inflight: Jobs that run here now.
        fallbacks: Cheaper answers under way.
        heard: Told of each decision with the number of its window, for a history.
    """

    def __init__(
        self,
        policy: AdmitterPolicy,
        clock: Clock,
        *,
        limit: int,
        views: Views | None = None,
        seed: int | None = None,
    ) -> None:
        self.clock, self.limit = clock, limit
        self.views = Views() if views is None else views
        self.is_dark = policy.admission.is_dark
        self._admitter = Admitter(policy, now=clock.monotonic())
        self._random = random.Random(seed)  # noqa: S311  # levels and jitter, no secret
        self._lag, self._lock = LoopLag(), threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._signals: list[Callable[[], float]] = []
        self.inflight = self.fallbacks = 0
        self.heard: Callable[[int, CallPlan, Decision], None] | None = None

    @property
    def window(self) -> int:
        """Number of the decision window that is open."""
        return self._admitter.window

    @property
    def threshold(self) -> int:
        """The level below which nothing is run here."""
        return self._admitter.threshold

    @property
    def threads(self) -> ThreadPoolExecutor:
        """For handlers that are plain functions: one thread for each slot."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(
                    2 * self.limit, thread_name_prefix="shifter-inline"
                )
            return self._threads

    def close(self) -> None:
        """Let go of the threads; a call that runs in one is left to itself."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def watch(self, signal: Callable[[], float]) -> None:
        """Take a load signal of the user's own into account.

        Args:
            signal: Called once a window, quick; 1.0 is as much as is well.
        """
        self._signals.append(signal)

    def decide(
        self,
        plan: CallPlan,
        *,
        can_run: bool,
        has_fallback: bool = False,
        can_wait: bool = True,
        is_extra: bool = False,
    ) -> Decision:
        """What to do with a job. A slot it needs is taken: see `held`.

        In the dark whatever can be run here is run, and what would have been done is
        only counted.

        Args:
            plan: The job and its options.
            can_run: Whether its handler can be called from here.
            has_fallback: Whether there is a cheaper answer.
            can_wait: Whether there is a lane for it.
            is_extra: Whether it is a retry, to be paid for by the retry budget.
        """
        with self._lock:
            case = self._case(plan, can_run=can_run, has_fallback=has_fallback)
            if is_extra or not can_wait:
                asked = case.asked._replace(can_wait=can_wait, is_extra=is_extra)
                case = case._replace(asked=asked)
            decision = self._admitter.decide(case, plan.spec.queue)
            asked = case.asked
            if self.is_dark and asked.runs_here and asked.waits_for is None:
                decision = _IN_THE_DARK
            self.inflight += decision.verdict is Verdict.RUN
            self.fallbacks += decision.verdict is Verdict.DEGRADE
            if self.heard is not None:
                self.heard(self._admitter.window, plan, decision)
        if decision.verdict is Verdict.DEFER and self.views.lanes is not None:
            self.views.lanes.deferred(plan.lane)
        return decision

    def explain(
        self, plan: CallPlan, *, can_run: bool, has_fallback: bool
    ) -> tuple[Decision, list[Finding]]:
        """What would be done now, with every rule and its numbers; decides nothing."""
        with self._lock:
            case = self._case(plan, can_run=can_run, has_fallback=has_fallback)
        return explain(self._admitter.policy.admission, case)

    def refused(self, plan: CallPlan) -> None:
        """Note that the log had no room for a job."""
        with self._lock:
            self._admitter.refused(plan.spec.queue, plan.priority)

    def held(self, decision: Decision) -> _Held:
        """Hold the slot of a decision while the block runs; freed on every way out."""
        return _Held(self, decision, self.clock.monotonic())

    def let_go(self, decision: Decision, queued_s: float) -> None:
        """Free the slot of a decision, once.

        Args:
            decision: As `decide` gave it.
            queued_s: How long the job stood in line before it, >= 0.
        """
        with self._lock:
            if decision.verdict is Verdict.RUN:
                self.inflight -= 1
                self._admitter.ended(queued_s)
            elif decision.verdict is Verdict.DEGRADE:
                self.fallbacks -= 1

    def load(self) -> float:
        """How busy this process is: its slots in use, of those there are."""
        return self.inflight / self.limit

    def quality(self, spec: JobSpec) -> Quality:
        """How good answers are now."""
        return self.views.needs(spec).quality

    def report(self) -> list[Tallied]:
        """What was decided so far, most urgent first; in the dark what would have been.

        ``Shed, LOW: 2.1 %`` of a dark run is what enforcing would have cost.
        """
        counts = self._admitter.counts()
        by_rank = {priority.rank: priority for priority in Priority}
        totals = dict.fromkeys(by_rank, 0)
        for (rank, _, _), count in counts.items():
            totals[rank] += count
        return [
            Tallied(by_rank[rank], verdict, reason, count, count / totals[rank])
            for (rank, verdict, reason), count in sorted(
                counts.items(), key=lambda row: (-row[0][0], -row[1])
            )
        ]

    def _case(self, plan: CallPlan, *, can_run: bool, has_fallback: bool) -> Case:
        now = self.clock.monotonic()
        load = Load(self.inflight, self.limit, self.fallbacks, self._lag.read_ms(), 0.0)
        admitter = self._admitter
        if admitter.is_over(now):
            outside = max((signal() for signal in self._signals), default=0.0)
            admitter.roll(load._replace(outside=outside), now=now)
        lanes = self.views.lanes
        return admitter.case(
            self._asked(plan, can_run=can_run, has_fallback=has_fallback),
            plan.spec.queue,
            load,
            self.views.needs(plan.spec),
            None if lanes is None else lanes.facts(plan.lane),
            self._random.random(),
        )

    def _asked(self, plan: CallPlan, *, can_run: bool, has_fallback: bool) -> Asked:
        draw, left_ms = ambient().draw, plan.deadline_ms
        if draw is None:
            draw = self._random.random()
        return Asked(
            plan.priority.rank,
            level_of(plan.priority, draw),
            None if left_ms is None else left_ms / 1_000,
            _waits_for(plan, self.clock),
            can_run and _may_run(plan),
            has_fallback,
        )


class _Held:
    """A slot while a block runs; a class, since each request passes here."""

    __slots__ = ("_admission", "_began_at", "_decision")

    def __init__(
        self, admission: Admission, decision: Decision, began_at: float
    ) -> None:
        self._admission, self._decision = admission, decision
        self._began_at = began_at

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        arrived_at = ambient().arrived_at
        queued_s = 0.0 if arrived_at is None else self._began_at - arrived_at
        self._admission.let_go(self._decision, max(0.0, queued_s))


def _waits_for(plan: CallPlan, clock: Clock) -> Reason | None:
    windows = plan.spec.windows
    if windows and not is_open(windows, clock.epoch_ms()):
        return Reason.WINDOW_CLOSED
    return None if plan.due_ms is None and not plan.delay_ms else Reason.NOT_DUE


def _may_run(plan: CallPlan) -> bool:
    """Whether running a job here keeps what it asks for.

    An ordering key keeps its order in the lane, an idempotency key or a given id takes
    effect once by a claim, and neither is waited for here.
    """
    spec = plan.spec
    return (
        spec.inline
        and spec.isolation is not Isolation.PROCESS
        and plan.key is None
        and plan.idempotency_key is None
        and plan.job_id is None
    )
