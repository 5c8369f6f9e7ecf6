"""Holds jobs back whose dependency cannot serve them now.

A job whose dependency refuses waits here, in its place, and nothing is charged; one
that has a fallback runs that instead while the circuit is open or the quality is
lowered. Jobs without a dependency cost one look.
"""

from __future__ import annotations

from collections.abc import Iterator

from shifter.fleet.calls import (
    CALLER,
    SUCCESS,
    ActiveCall,
    Caller,
    Calls,
    CallVerdict,
    TimeLimit,
)
from shifter.fleet.protection import DependencyProtection, Rejected
from shifter.fleet.replica import FleetReplica
from shifter.model.priority import Priority
from shifter.model.quality import Quality
from shifter.policy.protection.dependency import Protection
from shifter.policy.protection.evidence import CallOutcome
from shifter.policy.protection.quality import is_spared
from shifter.ports import Clock
from shifter.work.attempt import Attempt, Stop
from shifter.work.item import Item
from shifter.work.job_observer import JobObserver
from shifter.work.parts import DrainParts


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


class DependencyGate:
    """The dependencies of one worker. Belongs to its event loop.

    Args:
        board: What is known of them.
        clock: Monotonic.
        observer: Counts every refusal.

    Attributes:
        lines: Items that wait for room, by name of the dependency.
    """

    def __init__(
        self, board: FleetReplica, clock: Clock, observer: JobObserver
    ) -> None:
        self._board, self._clock, self._observer = board, clock, observer
        self._calls = Calls(board, clock)
        self._begun: dict[Item, ActiveCall] = {}
        self.lines: dict[str, RoomQueue] = {}

    def admit(self, item: Item) -> Rejected | None:
        """Let an item that is about to start pass, or return what rejects it."""
        job = item.job
        if job is None or item.refusal is not None:
            return None
        has_fallback = job.cheaper is not None and not is_repair(item)
        item.quality = self._board.quality
        item.is_degraded = has_fallback and is_spared(item.quality, _rank(item))
        shield = self._shield(item)
        if shield is None or item.is_degraded:
            return None
        held = self._calls.begin(shield, item.lane.priority, is_extra=item.is_extra)
        if isinstance(held, ActiveCall):
            self._begun[item] = held
            if (line := self.lines.get(shield.dependency.name)) is not None:
                line.leave(item)
            return None
        self._observer.held_back(shield.dependency, held.by)
        if held.by is Protection.CIRCUIT and has_fallback:
            item.is_degraded = True
            if item.quality is Quality.FULL:
                item.quality = Quality.REDUCED
            return None
        if held.by is Protection.LIMIT:
            self.lines.setdefault(shield.dependency.name, RoomQueue()).join(item)
        return held

    def speak_for(self, attempt: Attempt) -> None:
        """Attribute calls of this task, from now on, to an attempt."""
        if not self._board.shields:
            return
        item, limit = attempt.item, _limit(attempt)
        begun = self._begun.get(item)
        caller = Caller(
            self._calls,
            item.lane.priority,
            is_extra=item.is_extra,
            holds=None if begun is None else begun.shield.dependency.name,
            refused=self._observer.held_back,
            limit=limit,
        )
        if begun is not None:
            # The item passed before it was claimed.
            begun.began_ms = int(attempt.started_at * 1_000)
            if limit is not None:
                begun.given_ms = limit.given_ms(begun.began_ms)
            caller.under_way[begun] = None
        attempt.caller = caller
        CALLER.set(caller)

    def release(self, item: Item) -> None:
        """Take back that an item passed, since it is not run."""
        begun = self._begun.pop(item, None)
        if begun is not None:
            with self._board.lock:
                begun.shield.release(begun.leave, now_ms=self._now_ms())

    def ended(self, attempt: Attempt) -> None:
        """Record the evidence of an attempt about its dependencies."""
        item, caller = attempt.item, attempt.caller
        begun, is_success = self._begun.pop(item, None), attempt.said is SUCCESS
        if begun is not None and caller is not None:
            caller.end(begun, _said(attempt))
            if is_success:
                with self._board.lock:
                    begun.shield.died(item.lane.name, None, now_ms=self._now_ms())
        if caller is not None and not is_success:
            caller.leave()
        # A refused call does not count: the next one is still the first attempt.
        item.was_run = item.was_run or not (is_success or attempt.was_refused)

    def spares(self, item: Item, fingerprint: str) -> bool:
        """Whether a dead letter implicates the dependency rather than its job."""
        shield = self._shield(item)
        if shield is None:
            return False
        with self._board.lock:
            is_spared = shield.died(item.lane.name, fingerprint, now_ms=self._now_ms())
        if is_spared:
            self._board.urge(shield)
        return is_spared

    def next_up(self, item: Item) -> Iterator[Item]:
        """Items that waited for the limit and may pass now that an item has left."""
        shield = self._shield(item)
        if shield is None or shield.limit is None:
            return
        line = self.lines.get(shield.dependency.name)
        room = int(shield.limit.state.limit) - shield.limit.inflight
        while line and room > 0:
            yield line.take()
            room -= 1

    def _shield(self, item: Item) -> DependencyProtection | None:
        dependency = None if item.job is None else item.job.dependency
        return None if dependency is None else self._board.shields.get(dependency.name)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1_000)


def board_of(parts: DrainParts, process: str, seed: int | None) -> FleetReplica:
    """The replica of a process that shares no state: it holds its own evidence only."""
    used = (job.dependency for job in parts.jobs.values())
    return FleetReplica(
        {dependency.name: dependency for dependency in used if dependency}.values(),
        parts.clock,
        process=process,
        ears=parts.observer,
        seed=seed,
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


def _said(attempt: Attempt) -> CallVerdict:
    """A payload that cannot be read, and a refusal, are no evidence."""
    if attempt.item.refusal is not None or attempt.was_refused:
        return CallVerdict(CallOutcome.IGNORED)
    return attempt.said
