"""Holds jobs back whose dependency cannot serve them now.

A job whose dependency refuses waits here, in its place, and nothing is charged; one
that has a fallback runs that instead while the circuit is open or the quality is
lowered. Jobs without a dependency cost one look.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from shifter.fleet.calls import (
    CALLER,
    SUCCESS,
    ActiveCall,
    Caller,
    CallVerdict,
    TimeLimit,
)
from shifter.fleet.protection import DependencyProtection, Rejected
from shifter.fleet.replica import FleetReplica
from shifter.model.answer import Quality
from shifter.model.lane import Priority
from shifter.policy.protection.circuit.evidence import CallOutcome
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.quality import is_spared
from shifter.work.attempt import Attempt, Stop
from shifter.work.item import Item
from shifter.work.job_observer import JobObserver


class RoomQueue:
    """Items that wait for the concurrency limit of a dependency; urgent ones first."""

    def __init__(self) -> None:
        self._by_rank: dict[int, dict[Item, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_rank.values()))

    def join(self, item: Item) -> None:
        """Queue an item behind those of its priority, unless it is queued already."""
        self._by_rank.setdefault(_rank(item), {}).setdefault(item)

    def leave(self, item: Item) -> None:
        """Remove an item; without effect if it is not queued."""
        same = self._by_rank.get(_rank(item), {})
        same.pop(item, None)
        if not same:
            self._by_rank.pop(_rank(item), None)

    def take(self) -> Item:
        """Remove and return the first item; the queue must not be empty."""
        item = next(iter(self._by_rank[max(self._by_rank)]))
        self.leave(item)
        return item


class _Admitted(NamedTuple):
    """The call of an item that was admitted and has not ended."""

    caller: Caller
    call: ActiveCall


class DependencyGate:
    """Admits the jobs of one worker to its dependencies. Belongs to its event loop.

    Args:
        replica: The fleet's state, with the protections of the dependencies.
        observer: Counts every refusal.

    Attributes:
        queues: Items that wait for room, by name of the dependency.
    """

    def __init__(self, replica: FleetReplica, observer: JobObserver) -> None:
        self._replica, self._observer = replica, observer
        self._admitted: dict[Item, _Admitted] = {}
        self.queues: dict[str, RoomQueue] = {}

    def admit(self, item: Item) -> Rejected | None:
        """Let an item that is about to start pass, or return what rejects it."""
        job = item.job
        if job is None or item.refusal is not None:
            return None
        # A repair replaces a degraded answer, so it is never degraded itself.
        has_fallback = job.cheaper is not None and not is_repair(item)
        item.quality = self._replica.quality
        item.is_degraded = has_fallback and is_spared(item.quality, _rank(item))
        protection = self._protection(item)
        if protection is None or item.is_degraded:
            return None
        held = self._begin(item, protection.dependency.name)
        if held is None:
            return None
        if held.by is Protection.CIRCUIT and has_fallback:
            item.is_degraded, item.degraded_by = True, held.reason
            if item.quality is Quality.FULL:
                item.quality = Quality.REDUCED
            return None
        if held.by is Protection.LIMIT:
            queue = self.queues.setdefault(protection.dependency.name, RoomQueue())
            queue.join(item)
        return held

    def _begin(self, item: Item, name: str) -> Rejected | None:
        caller = self._caller(item)
        answer = caller.begin(name)
        if isinstance(answer, Rejected):
            return answer
        if answer is not None:
            self._admitted[item] = _Admitted(caller, answer)
        if (queue := self.queues.get(name)) is not None:
            queue.leave(item)
        return None

    def call_for(self, attempt: Attempt) -> None:
        """Attribute calls of this task, from now on, to an attempt."""
        if not self._replica.protections:
            return
        item, limit = attempt.item, _limit(attempt)
        admitted = self._admitted.get(item)
        if admitted is None:
            caller = self._caller(item)
        else:
            caller, call = admitted
            # The call was admitted before the job was claimed, which takes time.
            call.began_ms = int(attempt.started_at * 1_000)
            if limit is not None:
                call.given_ms = limit.given_ms(call.began_ms)
            caller.holds = call.protection.dependency.name
        caller.limit = limit
        attempt.caller = caller
        CALLER.set(caller)

    def release(self, item: Item) -> None:
        """Return the permit of an item that passed and is not run."""
        admitted = self._admitted.pop(item, None)
        if admitted is not None:
            admitted.caller.release(admitted.call)

    def ended(self, attempt: Attempt) -> None:
        """Record the evidence of an attempt about its dependencies."""
        item, caller = attempt.item, attempt.caller
        admitted, is_success = (
            self._admitted.pop(item, None),
            attempt.verdict is SUCCESS,
        )
        if admitted is not None and caller is not None:
            caller.end(admitted.call, _verdict(attempt))
            if is_success:
                self._job_ended(admitted.call.protection, item, None)
        if caller is not None and not is_success:
            caller.cut()
        # A refused call does not count: the next one is still the first attempt.
        item.was_run = item.was_run or not (is_success or attempt.was_refused)

    def spares(self, item: Item, fingerprint: str) -> bool:
        """Whether a dead letter implicates the dependency rather than its job."""
        protection = self._protection(item)
        if protection is None:
            return False
        is_implicated = self._job_ended(protection, item, fingerprint)
        if is_implicated:
            self._replica.urge(protection)
        return is_implicated

    def next_up(self, item: Item) -> Iterator[Item]:
        """Items that waited for the limit and may pass now that an item has left."""
        protection = self._protection(item)
        if protection is None or protection.limit is None:
            return
        queue = self.queues.get(protection.dependency.name)
        room = int(protection.limit.state.limit) - protection.limit.inflight
        while queue and room > 0:
            yield queue.take()
            room -= 1

    def _caller(self, item: Item) -> Caller:
        return Caller(
            self._replica,
            item.lane.priority,
            is_extra=item.is_extra,
            refused=self._observer.held_back,
        )

    def _protection(self, item: Item) -> DependencyProtection | None:
        dependency = None if item.job is None else item.job.dependency
        if dependency is None:
            return None
        return self._replica.protections.get(dependency.name)

    def _job_ended(
        self, protection: DependencyProtection, item: Item, fingerprint: str | None
    ) -> bool:
        with self._replica.lock:
            return protection.job_ended(
                item.lane.name, fingerprint, now_ms=self._replica.now_ms()
            )


def is_repair(item: Item) -> bool:
    """Whether an item repairs a degraded answer; a repair waits and is not degraded."""
    is_low = item.lane.priority is Priority.LOW
    return is_low and item.job is not None and item.job.spec.repair


def _rank(item: Item) -> int:
    return item.lane.priority.rank


def _limit(attempt: Attempt) -> TimeLimit | None:
    """The timeout of an attempt; ``None`` where its deadline comes first."""
    if attempt.stop_for is Stop.DEADLINE:
        return None
    return TimeLimit(int(attempt.started_at * 1_000), int(attempt.expires_at * 1_000))


def _verdict(attempt: Attempt) -> CallVerdict:
    """A payload that cannot be read, and a refusal, are no evidence."""
    if attempt.item.refusal is not None or attempt.was_refused:
        return CallVerdict(CallOutcome.IGNORED)
    return attempt.verdict
