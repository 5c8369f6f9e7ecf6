"""Everything that stands between one process's calls and one dependency.

A call is let through by the circuit, the concurrency limit, the retry budget (extra
executions only) and the rate, in that order; whoever refuses says how long to wait.
Probes of a half-open circuit pass all others: they are few, and somebody has to ask.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

from shifter.fleet.breaker import Breaker, CallPermit, StoreContact
from shifter.fleet.budget_lease import RateLease, RetryLease
from shifter.fleet.limit_gate import LimitGate
from shifter.fleet.report import PROTECTIONS, DependencyReport
from shifter.model.priority import Priority
from shifter.model.reason import Reason
from shifter.policy.delivery.failure_burst import FailureBurst
from shifter.policy.protection.circuit import CircuitRefusal, CircuitState
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.policy.protection.evidence import CallOutcome
from shifter.policy.protection.local_circuit import CallEnd
from shifter.policy.protection.throttle import after_call, full, may_retry

_LONGEST_MS: Final = 1_000
_AGAIN_MS: Final = 250
_STATED_FOR_MS: Final = 2_000
_REASONS: Final = {
    Protection.CIRCUIT: Reason.CIRCUIT_OPEN,
    Protection.LIMIT: Reason.LIMIT_REACHED,
    Protection.BUDGET: Reason.BUDGET_EXHAUSTED,
    Protection.RATE: Reason.RATE_LIMITED,
}


class Rejected(NamedTuple):
    """No call now.

    Attributes:
        by: What refused it.
        wait_ms: When it makes sense to ask again, > 0, jittered.
    """

    by: Protection
    wait_ms: int

    @property
    def reason(self) -> Reason:
        """The code of it."""
        return _REASONS[self.by]


class DependencyProtection:
    """See above. Belongs to one thread.

    Args:
        dependency: What is protected.
        draws: Jitter and ramp.
        standing: The process's, with the store.

    Attributes:
        dependency: As given.
        breaker: Its circuit, the fleet's and this process's own.
        circuit: The fleet's alone.
        retries: What this process may spend of the budget.
        calls: The same of the rate; ``None`` without one.
        limit: Calls under way; ``None`` without a limit.
        refused: Calls refused so far, by protection; ``dark`` ones would have been.
        would_refuse: The same in the dark.
    """

    def __init__(
        self, dependency: Dependency, draws: random.Random, standing: StoreContact
    ) -> None:
        self.dependency, self._draws = dependency, draws
        self._dark = frozenset(dependency.dark)
        self.breaker = Breaker(dependency, draws, standing)
        self.circuit = self.breaker.shared
        self.retries = RetryLease(dependency.name, dependency.budget)
        rate = dependency.rate
        self.calls = None if rate is None else RateLease(dependency.name, rate)
        limit = dependency.limit
        self.limit = None if limit is None else LimitGate(limit)
        throttle = dependency.throttle
        self._tokens_milli = 0 if throttle is None else full(throttle)
        self._letters: dict[str, FailureBurst] = {}
        self.refused = dict.fromkeys(PROTECTIONS, 0)
        self.would_refuse = dict.fromkeys(PROTECTIONS, 0)
        self._stated, self._stated_until_ms = DependencyReport(), 0

    def admit(
        self, priority: Priority, *, is_extra: bool, now_ms: int
    ) -> CallPermit | Rejected:
        """Decide about one call; whatever it takes is taken.

        Args:
            priority: Of the job.
            is_extra: Whether it is a retry, a replay or a hedge.
            now_ms: By this process's monotonic clock.
        """
        self._stated_until_ms = 0
        leave = self.breaker.admit(now_ms)
        if isinstance(leave, CircuitRefusal):
            if self._refuses(Protection.CIRCUIT):
                return self._held(Protection.CIRCUIT, leave.retry_in_ms)
            leave = self.breaker.uncounted()
        if not (leave.shared.probe or leave.own.probe):
            by = self._refusal(priority, is_extra=is_extra, now_ms=now_ms)
            if by is not None:
                return self._held(by, _AGAIN_MS)
            if not is_extra:
                self.retries.first(now_ms)
        if self.limit is not None:
            self.limit.begin()
        return leave

    def _refusal(
        self, priority: Priority, *, is_extra: bool, now_ms: int
    ) -> Protection | None:
        """What else keeps the call back."""
        limit, calls = self.limit, self.calls
        is_full = limit is not None and not limit.has_room(priority)
        if is_full and self._refuses(Protection.LIMIT):
            return Protection.LIMIT
        has_paid = is_extra and self._may_retry(priority, now_ms)
        if is_extra and not has_paid and self._refuses(Protection.BUDGET):
            return Protection.BUDGET
        is_fast = calls is not None and not calls.spend(now_ms)
        if is_fast and self._refuses(Protection.RATE):
            if has_paid:
                self.retries.give_back(priority)
            return Protection.RATE
        return None

    def ended(self, leave: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended; returns whether this process alone opened or closed.

        Args:
            leave: What it was made with.
            end: How it ended.
            now_ms: By this process's monotonic clock.
        """
        self._stated_until_ms = 0
        end = self.breaker.judged(end)
        is_ignored = end.outcome is CallOutcome.IGNORED
        if self.limit is not None:
            self.limit.end(
                took_ms=None if is_ignored else end.took_ms,
                was_dropped=end.outcome is CallOutcome.THROTTLED
                or (end.was_cut and not is_ignored),
                now_ms=now_ms,
            )
        throttle = self.dependency.throttle
        if throttle is not None and not is_ignored:
            ok = end.outcome is CallOutcome.SUCCESS
            self._tokens_milli = after_call(throttle, self._tokens_milli, ok=ok)
        return self.breaker.ended(leave, end, now_ms=now_ms)

    def child_ended(self, leave: CallPermit, end: CallEnd, *, now_ms: int) -> bool:
        """The same for a call of a child process, which counted it unless it was cut.

        Then the child is killed, and what it counted is lost.
        """
        self._stated_until_ms = 0
        end = self.breaker.judged(end)
        return end.was_cut and self.breaker.ended(leave, end, now_ms=now_ms)

    def release(self, leave: CallPermit, *, now_ms: int) -> None:
        """A call that was let through and is not made."""
        if self.limit is not None:
            self.limit.end(took_ms=None, was_dropped=False, now_ms=now_ms)
        self.breaker.give_back(leave, now_ms)

    def died(self, lane: str, fingerprint: str | None, *, now_ms: int) -> bool:
        """Note how a job ended; whether its kind of death speaks against us all.

        Args:
            lane: Its lane.
            fingerprint: Of its error; ``None`` for a job that ended well.
            now_ms: By this process's monotonic clock.
        """
        letters = self._letters.get(lane)
        if letters is None:
            letters = self._letters[lane] = FailureBurst(self.dependency.letters)
        if fingerprint is not None:
            letters.record(now_ms, fingerprint)
            if letters.suspected(now_ms) == fingerprint:
                self._stated_until_ms = 0
                self.breaker.suspect(now_ms)
                return Protection.CIRCUIT not in self._dark
            return False
        letters.record(now_ms)
        return False

    def shut_for_ms(self, now_ms: int) -> int | None:
        """How long the circuit lets nothing through; ``None`` if it is not open."""
        if Protection.CIRCUIT in self._dark:
            return None
        answer = self.breaker.admit(now_ms)
        if isinstance(answer, CircuitRefusal):
            return answer.retry_in_ms
        self.breaker.give_back(answer, now_ms)
        return None

    def has_room(self, priority: Priority) -> bool:
        """Whether the concurrency limit lets one more call begin."""
        if self.limit is None or Protection.LIMIT in self._dark:
            return True
        return self.limit.has_room(priority)

    @property
    def own_state(self) -> CircuitState:
        """The circuit by the evidence of this process alone."""
        return self.breaker.own_state

    def statement(self, now_ms: int) -> DependencyReport:
        """What the others, and operators, are told now."""
        limit = self.limit
        self._stated = DependencyReport(
            *self.breaker.testimony(now_ms),
            held_back=_counts(self.refused),
            would_hold_back=_counts(self.would_refuse),
            limit=0 if limit is None else int(limit.state.limit),
            inflight=0 if limit is None else limit.inflight,
            budget=self.retries.words(now_ms),
        )
        if not (self._stated.failures or self._stated.slow):
            self._stated_until_ms = now_ms + _STATED_FOR_MS
        return self._stated

    def quiet_statement(self, now_ms: int) -> DependencyReport | None:
        """The last one, of two seconds ago at most, where nothing happened since.

        ``None`` where it has to be made anew, or something may be proposed or asked:
        of a thousand dependencies most say the same as before.
        """
        if now_ms >= self._stated_until_ms or self.circuit.has_news:
            return None
        return self._stated

    def _may_retry(self, priority: Priority, now_ms: int) -> bool:
        throttle = self.dependency.throttle
        if throttle is not None and not may_retry(throttle, self._tokens_milli):
            return False
        return self.retries.spend(priority, now_ms)

    def _refuses(self, by: Protection) -> bool:
        is_dark = by in self._dark
        (self.would_refuse if is_dark else self.refused)[by] += 1
        return not is_dark

    def _held(self, by: Protection, wait_ms: int) -> Rejected:
        """Not all at once: the wait is stretched by up to a half, never for long."""
        bound_ms = min(wait_ms, _LONGEST_MS)
        return Rejected(by, bound_ms + int(self._draws.random() * bound_ms / 2) + 1)


def _counts(counter: dict[Protection, int]) -> tuple[int, int, int, int]:
    circuit, limit, budget, rate = counter.values()
    return circuit, limit, budget, rate
