"""Everything that stands between one process's calls and one dependency.

The protections are a list of guards (`shifter.fleet.guards.Guard`), asked in this
order: circuit, concurrency limit, retry budget (extra executions only), rate. The first
one that refuses decides how long to wait. The trial calls of a half-open circuit bypass
the other guards: there are few of them, and without them the circuit could never close.

A change of a circuit is a `Change`; `FleetObserver` and the dependency's ``on_change``
learn of it.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter, deque
from typing import Final, NamedTuple

from shifter.fleet.breaker import Breaker, StoreContact
from shifter.fleet.guards import (
    CallPermit,
    CallRequest,
    Guard,
    LimitGuard,
    RetryLease,
)
from shifter.fleet.rate_lease import RateLease
from shifter.fleet.shared_state import PROTECTIONS, DependencyReport, cause_fields
from shifter.model.fleet import BudgetWish, FleetReport, FleetView, Proposal, RateWish
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.delivery.failure_burst import FailureBurst
from shifter.policy.protection.circuit.evidence import CallEnd, CallOutcome
from shifter.policy.protection.circuit.states import (
    CircuitRefusal,
)
from shifter.policy.protection.dependency import Dependency, Protection

_EJECTIONS_KEPT: Final = 1_000
"""Ejections between two readings that are counted."""

_LONGEST_MS: Final = 1_000
"""Longest wait of a refused call, so that it notices a circuit that has closed."""

_REPORT_KEPT_MS: Final = 2_000
"""How long the report of an idle dependency is sent again unchanged."""

_REASONS: Final = {
    Protection.CIRCUIT: Reason.CIRCUIT_OPEN,
    Protection.LIMIT: Reason.LIMIT_REACHED,
    Protection.BUDGET: Reason.BUDGET_EXHAUSTED,
    Protection.RATE: Reason.RATE_LIMITED,
}


class Rejected(NamedTuple):
    """No call now.

    Attributes:
        by: The protection that refused the call.
        wait_ms: Milliseconds after which to ask again, > 0, jittered.
    """

    by: Protection
    wait_ms: int

    @property
    def reason(self) -> Reason:
        """The reason code of the refusal."""
        return _REASONS[self.by]


class DependencyProtection:
    """The protections of one dependency in one process. Belongs to one thread.

    Args:
        dependency: The dependency that is protected.
        draws: Source of jitter.
        contact: Whether this process reaches the store.

    Attributes:
        dependency: The dependency that is protected.
        breaker: The circuits: the fleet's and this process's own.
        circuit: The fleet's circuit.
        retries: Retries that this process may spend of the fleet's budget.
        calls: Calls that this process may make by the rate; ``None`` without a rate.
        limit: The calls under way; ``None`` without a limit.
        refused: Calls refused so far, by protection.
        would_refuse: Calls that ``dark`` protections would have refused.
    """

    def __init__(
        self, dependency: Dependency, draws: random.Random, contact: StoreContact
    ) -> None:
        self.dependency, self._draws = dependency, draws
        self._dark = frozenset(dependency.dark)
        self.breaker = Breaker(dependency, draws, contact)
        self.circuit = self.breaker.shared
        name, throttle = dependency.name, dependency.throttle
        self.retries = RetryLease(name, dependency.budget, throttle)
        limit, rate = dependency.limit, dependency.rate
        self.limit = None if limit is None else LimitGuard(limit)
        self.calls = None if rate is None else RateLease(name, rate)
        limits: list[Guard] = [] if self.limit is None else [self.limit]
        rates = [] if self.calls is None else [self.calls]
        learning = limits if throttle is None else [*limits, self.retries]
        self._guards = [self.breaker, *limits, self.retries, *rates]
        # The path of every call: guards whose verb does nothing are left out.
        self._beginning = [*limits, self.retries]
        self._ending = [self.breaker, *learning]
        self._bursts: dict[str, FailureBurst] = {}
        self._ended: dict[CallOutcome, int] = {}
        self._ejected: deque[str] = deque(maxlen=_EJECTIONS_KEPT)
        self.refused = dict.fromkeys(PROTECTIONS, 0)
        self.would_refuse = dict.fromkeys(PROTECTIONS, 0)
        self._report, self._report_until_ms = DependencyReport(), 0

    def admit(
        self,
        priority: Priority,
        *,
        is_extra: bool,
        now_ms: int,
        is_prompt: bool = False,
    ) -> CallPermit | Rejected:
        """Decide about one call, and reserve what it needs.

        Args:
            priority: The priority of the job or the request.
            is_extra: Whether the call is a retry, a replay or a hedge.
            now_ms: The time, by this process's monotonic clock.
            is_prompt: Whether a caller waits for an extra call.

        Returns:
            The permit, to be handed to `ended` or `release`; or the refusal.
        """
        self._report_until_ms = 0
        request = CallRequest(priority, is_extra=is_extra, now_ms=now_ms)
        request.is_prompt = is_prompt
        guards = self._guards
        for guard in guards:
            wait_ms = guard.admit(request)
            if wait_ms is not None and self._refuses(guard.by):
                for earlier in guards[: guards.index(guard)]:
                    earlier.give_back(request)
                return self._rejected(guard.by, wait_ms)
            if request.is_probe:
                break
        for guard in self._beginning:
            guard.begin(request)
        return request.permit

    def ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended.

        Args:
            permit: The call's permit.
            end: How the call ended.
            now_ms: The time, by this process's monotonic clock.

        Returns:
            Whether this process's own circuit opened or closed.
        """
        self._report_until_ms = 0
        end = self.breaker.own.judged(end)
        self._ended[end.outcome] = self._ended.get(end.outcome, 0) + 1
        has_changed = False
        for guard in self._ending:
            has_changed |= guard.ended(permit, end, now_ms=now_ms)
        return has_changed

    def child_ended(self, permit: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call of a child process ended.

        The child counts the call itself as evidence, unless it was cut: then the child
        is killed, and its count is lost. `take_ended` has it in any case.

        Args:
            permit: The call's permit.
            end: How the call ended.
            now_ms: The time, by this process's monotonic clock.

        Returns:
            Whether this process's own circuit opened or closed.
        """
        self._report_until_ms = 0
        end = self.breaker.own.judged(end)
        self._ended[end.outcome] = self._ended.get(end.outcome, 0) + 1
        return end.was_cut and self.breaker.ended(permit, end, now_ms=now_ms)

    def release(self, permit: CallPermit, *, now_ms: int) -> None:
        """Return the permit of a call that is not made."""
        if self.limit is not None:
            end = CallEnd(CallOutcome.IGNORED, 0)
            self.limit.ended(permit, end, now_ms=now_ms)
        self.breaker.put_back(permit, now_ms)

    def take_ended(self) -> dict[CallOutcome, int]:
        """Return how many calls ended since the last time, by outcome."""
        taken, self._ended = self._ended, {}
        return taken

    def endpoint_ejected(self, kind: str) -> None:
        """Note why an endpoint was ejected: the kind of failure. From any thread."""
        self._ejected.append(kind)

    def take_ejected(self) -> Counter[str]:
        """Return how many endpoints were ejected since the last time, by kind."""
        taken = Counter[str]()
        with contextlib.suppress(IndexError):  # another thread may add one meanwhile
            while True:
                taken[self._ejected.popleft()] += 1
        return taken

    def job_ended(self, lane: str, fingerprint: str | None, *, now_ms: int) -> bool:
        """Note how a job ended.

        Args:
            lane: The job's lane.
            fingerprint: The fingerprint of its error; ``None`` if the job succeeded.
            now_ms: The time, by this process's monotonic clock.

        Returns:
            ``True`` if this failure fingerprint implicates the dependency.
        """
        burst = self._bursts.get(lane)
        if burst is None:
            burst = self._bursts[lane] = FailureBurst(self.dependency.letters)
        if fingerprint is not None:
            burst.record(now_ms, fingerprint)
            if burst.suspected(now_ms) == fingerprint:
                self._report_until_ms = 0
                self.breaker.suspect(now_ms)
                return Protection.CIRCUIT not in self._dark
            return False
        burst.record(now_ms)
        return False

    def shut_for_ms(self, now_ms: int) -> int | None:
        """How long the circuit lets nothing through; ``None`` if it is not open."""
        if Protection.CIRCUIT in self._dark:
            return None
        answer = self.breaker.ask(now_ms)
        if isinstance(answer, CircuitRefusal):
            return answer.retry_in_ms
        self.breaker.put_back(answer, now_ms)
        return None

    def report(self, now_ms: int) -> DependencyReport:
        """The report to the other processes and to operators."""
        limit = self.limit
        self._report = DependencyReport(
            *self.breaker.own.tally(now_ms),
            held_back=_counts(self.refused),
            would_hold_back=_counts(self.would_refuse),
            limit=0 if limit is None else int(limit.state.limit),
            inflight=0 if limit is None else limit.inflight,
            budget=self.retries.report(now_ms),
            cause=cause_fields(self.breaker.suspicion(now_ms)),
        )
        if not (self._report.failures or self._report.slow):
            self._report_until_ms = now_ms + _REPORT_KEPT_MS
        return self._report

    def propose(self, store_ms: int) -> Proposal | None:
        """Propose a change of the fleet's circuit, if there is one."""
        if not self.circuit.has_news:
            return None
        return self.circuit.propose(store_ms, self._draws.random())

    def unchanged_report(self, now_ms: int) -> DependencyReport | None:
        """The last report, if nothing has happened since; ``None`` if a new one is due.

        Of a thousand dependencies most are idle, and a report takes longer to build
        than the interval between two syncs allows for all of them.
        """
        if now_ms >= self._report_until_ms or self.circuit.has_news:
            return None
        return self._report

    def _refuses(self, by: Protection) -> bool:
        is_dark = by in self._dark
        (self.would_refuse if is_dark else self.refused)[by] += 1
        return not is_dark

    def _rejected(self, by: Protection, wait_ms: int) -> Rejected:
        """Stretch the wait by up to a half: refused calls must not return together."""
        bound_ms = min(wait_ms, _LONGEST_MS)
        return Rejected(by, bound_ms + int(self._draws.random() * bound_ms / 2) + 1)


def _counts(counter: dict[Protection, int]) -> tuple[int, int, int, int]:
    circuit, limit, budget, rate = counter.values()
    return circuit, limit, budget, rate


class SentReport:
    """What one sync reports and asks for, and what each part of its answer is for.

    Attributes:
        report: The report as it was sent.
        proposals: The proposals of circuits; others may follow them in the report.
        budgets: The retries asked for.
        rates: The calls asked for.
        is_alarmed: Whether this process suspects a dependency.
    """

    report: FleetReport

    def __init__(self) -> None:
        self.proposals: list[tuple[DependencyProtection, Proposal]] = []
        self.budgets: list[tuple[RetryLease, BudgetWish]] = []
        self.rates: list[tuple[RateLease, RateWish]] = []
        self.is_alarmed = False

    def add(
        self, protection: DependencyProtection, now_ms: int, store_ms: int | None
    ) -> DependencyReport:
        """Return the report of one dependency; add its proposal and its wishes.

        Args:
            protection: The protection of the dependency.
            now_ms: The time, by this process's monotonic clock.
            store_ms: The time, by the store's clock; ``None`` before its first answer.
        """
        report = protection.report(now_ms)
        retries, rate = protection.retries, protection.calls
        if report.failures or report.slow:
            self.is_alarmed |= protection.breaker.is_suspicious(now_ms)
        if store_ms is not None and (proposal := protection.propose(store_ms)):
            self.proposals.append((protection, proposal))
        if (budget_wish := retries.wish(now_ms)) is not None:
            self.budgets.append((retries, budget_wish))
        if rate is not None and (rate_wish := rate.wish(now_ms)) is not None:
            self.rates.append((rate, rate_wish))
        return report

    def answered(self, view: FleetView, now_ms: int) -> None:
        """Hand the answer's parts to those that asked."""
        # Proposals of the quality and of other cells come last and need no answer.
        for (protection, _), accepted in zip(
            self.proposals, view.accepted, strict=False
        ):
            protection.circuit.answered(accepted=accepted)
        for (retries, _), granted in zip(self.budgets, view.granted, strict=True):
            retries.granted(granted, now_ms)
        for (rate, _), grant in zip(self.rates, view.rates, strict=True):
            rate.granted(grant, now_ms)
