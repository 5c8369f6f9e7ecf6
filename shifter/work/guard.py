"""Keeps jobs from a dependency that cannot serve them, by what this worker saw.

A job whose dependency's circuit is open is put off until the circuit may be probed; it
is not an attempt. Jobs without a dependency cost one look.
"""

from __future__ import annotations

import random

from shifter.policy.circuit import Permit, Refused
from shifter.policy.evidence import CallOutcome
from shifter.policy.guard import CallEnd, Guard
from shifter.policy.retry import Failed, Outcome, RetryAsked, Succeeded, Throttled
from shifter.ports import Clock
from shifter.work.attempt import Attempt
from shifter.work.item import Item
from shifter.work.ledger import Ledger

_LEAST_WAIT_MS = 100


class Guards:
    """The circuits of one worker. Belongs to its event loop.

    Args:
        clock: Monotonic; circuits are not shared, so no other clock dates them.
        draws: Jitter of cooldowns.
        ledger: Hears of every circuit that changed, and of every refusal.
    """

    def __init__(self, clock: Clock, draws: random.Random, ledger: Ledger) -> None:
        self._clock, self._draws, self._ledger = clock, draws, ledger
        self._guards: dict[str, Guard] = {}
        self._permits: dict[Item, Permit] = {}

    def admit(self, item: Item) -> Outcome | None:
        """Let an item that is about to start pass, or say for how long it waits."""
        dependency = None if item.job is None else item.job.dependency
        if dependency is None:
            return None
        guard = self._guards.get(dependency.name)
        if guard is None:
            guard = self._guards[dependency.name] = Guard(dependency)
        before, refused = guard.state.generation, guard.refused
        answer = guard.admit(self._now_ms())
        if guard.state.generation != before:
            self._ledger.circuit_changed(dependency, guard.state)
        if guard.refused != refused:
            self._ledger.circuit_refused(dependency)
        if isinstance(answer, Refused):
            return Throttled(max(_LEAST_WAIT_MS, answer.retry_in_ms))
        self._permits[item] = answer
        return None

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """Note what an attempt says about its dependency."""
        permit = self._permits.pop(attempt.item, None)
        if permit is None or attempt.item.job is None:
            return
        dependency = attempt.item.job.dependency
        if dependency is None:
            return
        took_ms = int((self._clock.monotonic() - attempt.started_at) * 1_000)
        end = CallEnd(
            _said(attempt, outcome),
            took_ms,
            outcome.after_ms if isinstance(outcome, Throttled) else None,
        )
        guard, u = self._guards[dependency.name], self._draws.random()
        if guard.record(permit, end, now_ms=self._now_ms(), u=u):
            self._ledger.circuit_changed(dependency, guard.state)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1_000)


def _said(attempt: Attempt, outcome: Outcome) -> CallOutcome:
    """What the handler's own answers say nothing about is not the dependency's."""
    if attempt.item.refusal is not None:
        return CallOutcome.IGNORED
    if isinstance(outcome, Succeeded):
        return CallOutcome.SUCCESS
    if isinstance(outcome, Failed | RetryAsked):
        return CallOutcome.FAILURE
    is_throttled = isinstance(outcome, Throttled)
    return CallOutcome.THROTTLED if is_throttled else CallOutcome.IGNORED
