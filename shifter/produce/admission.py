"""Admission of one process: collects the input of a decision, and counts slots.

Nothing here waits. Slots and the lag of the event loop, which is the queue that every
coroutine stands in, are measured in the process. Lanes and dependencies are views that
a background thread keeps fresh.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, NamedTuple, Protocol

from shifter.jobs.request_scope import ambient
from shifter.model.answer import Quality
from shifter.model.job import JobSpec
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.admission.admitter import AdmissionPolicy, Admitter
from shifter.policy.admission.decision import RuleFinding, explain
from shifter.policy.admission.input import (
    DEFER,
    DEGRADE,
    RUN,
    SHED,
    WELL,
    AdmissionInput,
    Decision,
    DependencyNeeds,
    Verdict,
)
from shifter.policy.admission.lane_outlook import LaneFacts
from shifter.policy.admission.prioritizer import level_of
from shifter.policy.protection.budget import Budget
from shifter.ports import Clock
from shifter.produce.loop_lag import LoopLag
from shifter.produce.options import CallPlan
from shifter.produce.tally import DecisionCount, sentences, tallied
from shifter.runtime.forking import renew_in_child
from shifter.telemetry import Event, Log

NOTHING: Final = contextlib.nullcontext()
"""A block around which nothing is done; it can be entered again and again."""
_IN_THE_DARK: Final = Decision(Verdict.RUN, Reason.ACCEPTED)


class LaneView(Protocol):
    """The last known state of lanes; reading it waits for nothing."""

    def facts(self, lane: str) -> LaneFacts | None:
        """The state of a lane; ``None`` when nothing is known."""

    def deferred(self, lane: str) -> None:
        """Count a job of this process until the next look at the lane."""


class Views(NamedTuple):
    """What the decision sees of the world.

    Attributes:
        lanes: The fleet's lanes; ``None`` if they are not watched.
        needs: The state of the dependencies of a job at a priority, and of their retry
            budget where it is an extra execution.
        calling: A block that runs a job, or with ``is_fallback=True`` its fallback; its
            end is evidence about dependencies.
        serving: A block that serves a request at a priority; likewise.
    """

    lanes: LaneView | None = None
    needs: Callable[[JobSpec, Priority, bool], DependencyNeeds] = lambda *_: WELL
    calling: Callable[..., AbstractContextManager[None]] = lambda *_, **__: NOTHING
    serving: Callable[[Priority], AbstractContextManager[None]] = lambda _: NOTHING


class Admission:
    """Admission of one process. Safe to share between threads.

    Args:
        policy: The settings.
        clock: Monotonic and wall time.
        limit: Slots: jobs run here at once, >= 1.
        views: What is known of the world.
        seed: Seeds the draws; ``None`` from the system.

    Attributes:
        signal_failures: How often a signal of the user's own raised.
        on_decision: Called with the window's number, the plan and the decision of each.
        answered: Called with each answer: job type, priority, its word, its reason.
        lag_ms: Returns how late the event loop is, in milliseconds, >= 0.
        decided: Called with each answer to a job: its plan, its id, the answer's word
            and reason; ``None`` calls nothing.
    """

    def __init__(
        self,
        policy: AdmissionPolicy,
        clock: Clock,
        *,
        limit: int,
        views: Views | None = None,
        seed: int | None = None,
    ) -> None:
        self.clock, self.limit = clock, limit
        self.views = Views() if views is None else views
        self.is_dark = policy.is_dark
        self._admitter = Admitter(policy, limit=limit, now=clock.monotonic())
        self._random = random.Random(seed)  # noqa: S311  # levels and jitter, no secret
        self._retries = Budget(policy.retries)
        self._lag, self._lock = LoopLag(), threading.Lock()
        self.lag_ms: Callable[[], float] = self._lag.read_ms
        self._load, self._case = self._admitter.load, AdmissionInput(0, 0)
        self._threads: ThreadPoolExecutor | None = None
        self._signals: list[Callable[[], float]] = []
        self.signal_failures = 0
        self.on_decision: Callable[[int, CallPlan, Decision], None] | None = None
        self.answered: Callable[[str, Priority, str, Reason], None] = lambda *_: None
        self.decided: Callable[[CallPlan, str, str, Reason], None] | None = None
        renew_in_child(self._after_fork)

    @property
    def loop_lag_s(self) -> float:
        """How late the event loop is, as last measured, seconds >= 0."""
        return self._lag.last_s

    def _after_fork(self) -> None:
        # What is under way, and what was counted, is the parent's; so are the threads.
        self._lock, self._threads, self.views = threading.Lock(), None, Views()
        policy, now = self._admitter.policy, self.clock.monotonic()
        self._admitter = Admitter(policy, limit=self.limit, now=now)
        self._load, self._case = self._admitter.load, AdmissionInput(0, 0)
        self._retries = Budget(policy.retries)

    @property
    def inflight(self) -> int:
        """Jobs that run here now."""
        return self._load.inflight

    @property
    def fallbacks(self) -> int:
        """Cheaper answers under way."""
        return self._load.fallbacks

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
        """The threads of handlers that are plain functions: one for each slot."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(
                    2 * self.limit, thread_name_prefix="shifter-inline"
                )
            return self._threads

    def close(self) -> None:
        """Free the threads, log the counts of a dark run; a running call goes on."""
        with self._lock:
            threads, self._threads = self._threads, None
        for text in self.summary() if self.is_dark else ():
            Log().info(Event.ADMISSION_COUNTED, said=text)
        if threads is not None:
            threads.shutdown(wait=False)

    def watch(self, signal: Callable[[], float]) -> None:
        """Take a load signal of the user's own into account.

        Args:
            signal: Called once a window; must not block. 1.0 means at capacity.
        """
        self._signals.append(signal)

    def decide(
        self,
        plan: CallPlan,
        *,
        can_run: bool,
        has_fallback: bool = False,
        can_wait: bool = True,
    ) -> Decision:
        """Decide about a job. A slot that it needs is taken until `let_go`.

        In the dark every job runs that can run here, and the decision is only counted.

        Args:
            plan: The job and its options.
            can_run: Whether its handler can be called from here.
            has_fallback: Whether there is a cheaper answer.
            can_wait: Whether there is a lane for it.
        """
        with self._lock:
            case = self._case
            case.has_fallback, case.can_wait = has_fallback, can_wait
            case.is_extra = bool(plan.is_retry)
            self._look(case, plan, can_run=can_run)
            decision = self._admitter.decide(case, plan.spec.queue)
            if self.is_dark and case.runs_here and case.waits_for is None:
                decision = _IN_THE_DARK
            if plan.is_retry is not None:
                self._charge(plan, decision)
            if decision.verdict is RUN:
                self._load.inflight += 1
            elif decision.verdict is DEGRADE:
                self._load.fallbacks += 1
            if self.on_decision is not None:
                self.on_decision(self._admitter.window, plan, decision)
        if decision.verdict is DEFER and self.views.lanes is not None:
            self.views.lanes.deferred(plan.lane)
        return decision

    def slot(self, plan: CallPlan) -> AbstractContextManager[Decision]:
        """Decide on a call that cannot wait; hold its slot while the block runs."""
        return _Slot(self, plan)

    def explain(
        self, plan: CallPlan, *, can_run: bool, has_fallback: bool
    ) -> tuple[Decision, list[RuleFinding]]:
        """What would be done now, with every rule and its numbers; decides nothing.

        Args:
            plan: The call.
            can_run: Whether the job may run in this process.
            has_fallback: Whether the job has a fallback.
        """
        case = AdmissionInput(0, 0, has_fallback=has_fallback)
        with self._lock:
            self._look(case, plan, can_run=can_run)
        return explain(self._admitter.policy.outlook, case)

    def spend_retry(self, priority: Priority) -> bool:
        """Charge a retry that is not decided about, since it is not run here.

        Returns:
            ``False`` where the budget has none left; always ``True`` in the dark.
        """
        with self._lock:
            granted = self._retries.withdraw(self._now_ms(), priority)
        return granted == 1 or self.is_dark

    def refused(self, plan: CallPlan) -> None:
        """Note that the log had no room for a job."""
        with self._lock:
            self._admitter.refused(plan.spec.queue, plan.priority)

    def let_go(self, decision: Decision) -> None:
        """Free the slot of a decision, once, on whichever way out."""
        with self._lock:
            # A decision from before a fork holds a slot of the parent's.
            if decision.verdict is RUN and self._load.inflight:
                self._load.inflight -= 1
                self._admitter.ended()
            elif decision.verdict is DEGRADE and self._load.fallbacks:
                self._load.fallbacks -= 1

    def load(self) -> float:
        """How busy this process is: its slots in use, of those there are."""
        return self._load.inflight / self.limit

    def quality(self, plan: CallPlan) -> Quality:
        """How good answers to a job are now."""
        return self.views.needs(plan.spec, plan.priority, False).quality

    def report(self) -> list[DecisionCount]:
        """What was decided so far, most urgent first; in the dark what would have been.

        The rows of ``LOW`` and ``shed`` of a dark run are the cost of enforcing.
        """
        return tallied(self._admitter.counts())

    def summary(self) -> list[str]:
        """The report in words: ``would have shed 2.1 % of LOW (overloaded 2.1 %)``."""
        return sentences(self.report(), is_dark=self.is_dark)

    def _heed(self, signal: Callable[[], float]) -> float:
        """Read a signal; a failed one counts as 0, and the first failure is logged."""
        try:
            return float(signal())
        except Exception as error:  # noqa: BLE001  # the user's own
            if not self.signal_failures:
                Log().warning(Event.SIGNAL_FAILED, error=repr(error))
            self.signal_failures += 1
            return 0.0

    def _charge(self, plan: CallPlan, decision: Decision) -> None:
        """Note a call: what is refused anyway costs no retry."""
        if not plan.is_retry:
            self._retries.deposit(self._now_ms())
        elif decision.verdict is not SHED:
            self._retries.withdraw(self._now_ms(), plan.priority)

    def _now_ms(self) -> int:
        return int(self.clock.monotonic() * 1_000)

    def _look(self, case: AdmissionInput, plan: CallPlan, *, can_run: bool) -> None:
        """Collect the input of a decision: the job's facts, and the state of now."""
        now, load, admitter = self.clock.monotonic(), self._load, self._admitter
        load.lag_ms = self.lag_ms()
        if now >= admitter.until:
            load.outside = max(map(self._heed, self._signals), default=0.0)
            admitter.roll(now=now)
        spec, priority, left_ms = plan.spec, plan.priority, plan.deadline_ms
        around = ambient()
        draw, arrived_at = around.draw, around.arrived_at
        if draw is None:
            draw = self._random.random()
        case.rank, case.level = priority.rank, level_of(priority, draw)
        case.left_s = None if left_ms is None else left_ms / 1_000
        case.waits_for, case.opens_s = _waits_for(plan), 0.0
        if case.waits_for is not None:
            case.opens_s = _opens_s(plan, self.clock)
        case.runs_here = can_run and plan.runs_here
        case.queued_s = 0.0 if arrived_at is None else max(0.0, now - arrived_at)
        views = self.views
        lanes, case.needs = views.lanes, views.needs(spec, priority, case.is_extra)
        case.lane = None if lanes is None else lanes.facts(plan.lane)
        if plan.is_retry and not self._retries.can_pay(self._now_ms(), priority):
            case.needs = dataclasses.replace(case.needs, has_budget=False)
        case.u = self._random.random()
        admitter.look(case, spec.queue)


class _Slot(AbstractContextManager[Decision]):
    """A class, since each request enters one and a generator takes twice as long."""

    __slots__ = ("_admission", "_decision", "_plan", "_serving")

    def __init__(self, admission: Admission, plan: CallPlan) -> None:
        self._admission, self._plan = admission, plan
        self._serving: AbstractContextManager[None] = NOTHING

    def __enter__(self) -> Decision:
        admission, plan = self._admission, self._plan
        self._decision = decision = admission.decide(plan, can_run=True, can_wait=False)
        is_run = decision.verdict is RUN
        word = "ran" if is_run else "shed"
        admission.answered(plan.spec.name, plan.priority, word, decision.reason)
        if is_run:
            try:
                serving = admission.views.serving(plan.priority)
                serving.__enter__()
            except BaseException:
                admission.let_go(decision)
                raise
            self._serving = serving
        return decision

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return self._serving.__exit__(kind, error, traceback)
        finally:
            self._admission.let_go(self._decision)


def _waits_for(plan: CallPlan) -> Reason | None:
    if plan.opens_ms is not None:
        return Reason.WINDOW_CLOSED
    return None if plan.due_ms is None and not plan.delay_ms else Reason.NOT_DUE


def _opens_s(plan: CallPlan, clock: Clock) -> float:
    """Seconds until a job that must not start now may."""
    at_ms = plan.due_ms if plan.opens_ms is None else plan.opens_ms
    if at_ms is None:
        return (plan.delay_ms or 0) / 1_000
    return max(0, at_ms - clock.epoch_ms()) / 1_000
