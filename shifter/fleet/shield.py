"""Everything that stands between one process's calls and one dependency.

A call is let through by the circuit, the concurrency limit, the retry budget (extra
executions only) and the rate, in that order; whoever refuses says how long to wait.
Probes of a half-open circuit pass all others: they are few, and somebody has to ask.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final, NamedTuple

from shifter.fleet.circuit import ASK_AGAIN_MS, SharedCircuit
from shifter.fleet.limit_gate import LimitGate
from shifter.fleet.statement import PROTECTIONS, Statement
from shifter.fleet.till import CallTill, RetryTill
from shifter.model.priority import Priority
from shifter.model.reason import Reason
from shifter.policy.circuit import CircuitState, Closed, Open, Permit, Refused
from shifter.policy.dependency import Dependency, Protection
from shifter.policy.evidence import CallOutcome, Evidence, Scope, Tally, scope, suspect
from shifter.policy.guard import CallEnd, Guard
from shifter.policy.letters import Letters
from shifter.policy.throttle import after_call, full, may_retry

_LONGEST_MS: Final = 1_000
_AGAIN_MS: Final = 250
_REASONS: Final = {
    Protection.CIRCUIT: Reason.CIRCUIT_OPEN,
    Protection.LIMIT: Reason.LIMIT_REACHED,
    Protection.BUDGET: Reason.BUDGET_EXHAUSTED,
    Protection.RATE: Reason.RATE_LIMITED,
}


_NOT_COUNTED: Final = Permit(-1)
"""Of a call that says nothing to this process's own circuit."""


class Leave(NamedTuple):
    """One call may be made.

    Attributes:
        shared: Permit of the fleet's circuit.
        own: Permit of this process's own circuit.
    """

    shared: Permit
    own: Permit


class Held(NamedTuple):
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


class Shield:
    """See above. Belongs to one thread.

    Args:
        dependency: What is protected.
        draws: Jitter and ramp.

    Attributes:
        dependency: As given.
        circuit: The fleet's.
        refused: Calls refused so far, by protection; ``dark`` ones would have been.
        would_refuse: The same in the dark.
        offset_ms: From this process's clock to the store's.
        is_alone: Whether the store has been away for so long that only local evidence
            counts.
    """

    def __init__(self, dependency: Dependency, draws: random.Random) -> None:
        self.dependency, self._draws = dependency, draws
        self._dark = frozenset(dependency.dark)
        self.circuit = SharedCircuit(dependency.name, dependency.circuit)
        self._guard = Guard(dependency)
        self.retries = RetryTill(dependency.name, dependency.budget)
        rate = dependency.rate
        self.calls = None if rate is None else CallTill(dependency.name, rate)
        limit = dependency.limit
        self.limit = None if limit is None else LimitGate(limit)
        throttle = dependency.throttle
        self._tokens_milli = 0 if throttle is None else full(throttle)
        self._letters: dict[str, Letters] = {}
        self._usual = Leave(Permit(0), Permit(0))
        self._usual_for = (0, 0)
        self.refused: Counter[Protection] = Counter()
        self.would_refuse: Counter[Protection] = Counter()
        self.offset_ms = 0
        self.is_alone = False
        self._retry_after_ms: int | None = None

    def admit(self, priority: Priority, *, is_extra: bool, now_ms: int) -> Leave | Held:
        """Decide about one call; whatever it takes is taken.

        Args:
            priority: Of the job.
            is_extra: Whether it is a retry, a replay or a hedge.
            now_ms: By this process's monotonic clock.
        """
        leave = self._pass_circuit(now_ms)
        if isinstance(leave, Held):
            if self._refuses(Protection.CIRCUIT):
                return leave
            leave = Leave(Permit(self.circuit.state.generation), _NOT_COUNTED)
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

    def ended(self, leave: Leave, end: CallEnd, *, now_ms: int) -> bool:
        """Note how a call ended; returns whether this process alone opened or closed.

        Args:
            leave: What it was made with.
            end: How it ended.
            now_ms: By this process's monotonic clock.
        """
        is_ignored = end.outcome is CallOutcome.IGNORED
        if self.limit is not None:
            self.limit.end(
                took_ms=None if is_ignored else end.took_ms,
                was_dropped=end.outcome is CallOutcome.THROTTLED,
                now_ms=now_ms,
            )
        throttle = self.dependency.throttle
        if throttle is not None and not is_ignored:
            ok = end.outcome is CallOutcome.SUCCESS
            self._tokens_milli = after_call(throttle, self._tokens_milli, ok=ok)
        if leave.shared.probe:
            outcome = self._guard.of_probe(end)
            self.circuit.record(leave.shared, outcome, end.retry_after_ms)
            return False
        if leave.shared.generation != self.circuit.state.generation:
            return False
        if end.retry_after_ms is not None:
            self._retry_after_ms = end.retry_after_ms
        return self._guard.record(leave.own, end, now_ms=now_ms, u=self._draws.random())

    def release(self, leave: Leave, *, now_ms: int) -> None:
        """A call that was let through and is not made."""
        if self.limit is not None:
            self.limit.end(took_ms=None, was_dropped=False, now_ms=now_ms)
        self._give_back(leave, now_ms)

    def died(self, lane: str, fingerprint: str | None, *, now_ms: int) -> bool:
        """Note how a job ended; whether its kind of death speaks against us all.

        Args:
            lane: Its lane.
            fingerprint: Of its error; ``None`` for a job that ended well.
            now_ms: By this process's monotonic clock.
        """
        letters = self._letters.get(lane)
        if letters is None:
            letters = self._letters[lane] = Letters(self.dependency.letters)
        if fingerprint is not None:
            letters.record(now_ms, fingerprint)
            if letters.suspected(now_ms) == fingerprint:
                self._guard.suspect(now_ms=now_ms, u=self._draws.random())
                return Protection.CIRCUIT not in self._dark
            return False
        letters.record(now_ms)
        return False

    def shut_for_ms(self, now_ms: int) -> int | None:
        """How long the circuit lets nothing through; ``None`` if it is not open."""
        if Protection.CIRCUIT in self._dark:
            return None
        answer = self._pass_circuit(now_ms)
        if isinstance(answer, Held):
            return answer.wait_ms
        self._give_back(answer, now_ms)
        return None

    def has_room(self, priority: Priority) -> bool:
        """Whether the concurrency limit lets one more call begin."""
        if self.limit is None or Protection.LIMIT in self._dark:
            return True
        return self.limit.has_room(priority)

    @property
    def own_state(self) -> CircuitState:
        """The circuit by the evidence of this process alone."""
        return self._guard.state

    def statement(self, now_ms: int) -> Statement:
        """What the others, and operators, are told."""
        limit = self.limit
        return Statement(
            *self._guard.testimony(now_ms),
            held_back=_counts(self.refused),
            would_hold_back=_counts(self.would_refuse),
            limit=0 if limit is None else int(limit.state.limit),
            inflight=0 if limit is None else limit.inflight,
        )

    def is_suspicious(self, now_ms: int) -> bool:
        """Whether the others should be heard: this process alone would open it."""
        if not isinstance(self.circuit.state, Closed):
            return False
        if isinstance(self._guard.state, Open):
            return True
        tally = self._guard.testimony(now_ms)
        return suspect(self.dependency.evidence, tally) is not None

    def hear(self, others: list[Tally], *, now_ms: int) -> None:
        """Weigh what the other processes say; may ask for the fleet's opening."""
        if not isinstance(self.circuit.state, Closed):
            return
        policy, own = self.dependency.evidence, self._guard.testimony(now_ms)
        evidence = [Evidence(tally, now_ms) for tally in others]
        if scope(policy, own, evidence, now_ms=now_ms) is Scope.FLEET:
            self.circuit.suspect(self._retry_after_ms)
            self._retry_after_ms = None

    def follow(self) -> None:
        """The fleet's circuit changed: what this process thought of it is over."""
        self._guard.reset()

    def _pass_circuit(self, now_ms: int) -> Leave | Held:
        own_state, shared_gen = self._guard.state, self.circuit.generation_if_calm
        if shared_gen >= 0 and isinstance(own_state, Closed):
            usual = self._usual
            if (shared_gen, own_state.generation) != self._usual_for:
                usual = Leave(Permit(shared_gen), Permit(own_state.generation))
                self._usual = usual
                self._usual_for = (shared_gen, own_state.generation)
            return usual
        if not self.is_alone:
            store_ms = now_ms + self.offset_ms
            shared = self.circuit.admit(store_ms, self._draws.random())
            if isinstance(shared, Refused):
                return self._held(Protection.CIRCUIT, shared.retry_in_ms)
            if shared.probe:
                return Leave(shared, _NOT_COUNTED)
        else:
            shared = Permit(self.circuit.state.generation)
        own = self._guard.admit(now_ms)
        if isinstance(own, Refused):
            return self._held(Protection.CIRCUIT, min(own.retry_in_ms, ASK_AGAIN_MS))
        return Leave(shared, own)

    def _give_back(self, leave: Leave, now_ms: int) -> None:
        if leave.shared.probe:
            self.circuit.give_back(leave.shared, now_ms + self.offset_ms)
        elif leave.own.probe:
            end = CallEnd(CallOutcome.IGNORED, 0)
            self._guard.record(leave.own, end, now_ms=now_ms, u=0.0)

    def _may_retry(self, priority: Priority, now_ms: int) -> bool:
        throttle = self.dependency.throttle
        if throttle is not None and not may_retry(throttle, self._tokens_milli):
            return False
        return self.retries.spend(priority, now_ms)

    def _refuses(self, by: Protection) -> bool:
        is_dark = by in self._dark
        (self.would_refuse if is_dark else self.refused)[by] += 1
        return not is_dark

    def _held(self, by: Protection, wait_ms: int) -> Held:
        """Not all at once: the wait is stretched by up to a half, never for long."""
        bound_ms = min(wait_ms, _LONGEST_MS)
        return Held(by, bound_ms + int(self._draws.random() * bound_ms / 2) + 1)


def _counts(counter: Counter[Protection]) -> tuple[int, int, int, int]:
    circuit, limit, budget, rate = (counter[by] for by in PROTECTIONS)
    return circuit, limit, budget, rate
