"""Slows a run down for live jobs: a lane gets replays only as fast as it starts them.

The jobs of a lane stand in one line, so how long a replay waits in it is how long a
live job waits. The last letters of each batch are looked after: the next batch is sent
when they have started, so that never more than a batch of replays stands in line. How
large a batch may be follows from what they waited beyond the least that was seen: it
grows by a little while that is short, and is halved when it is not (AIMD, on delay as
LEDBAT does, RFC 6817).

A lane that no worker drains has no live jobs to make room for: there, nothing waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from shifter.deadletter.batch import SampledReplay
from shifter.errors import StoreError
from shifter.ports import ClaimStore, Clock, PresenceStore, WorkerReport

_FIRST_LOOK_S: Final = 0.004
_LOOK_S: Final = 0.05
_LOOK_LATER: Final = 1.3
_REMEMBERED: Final = 200
_PRESENCE_EVERY_S: Final = 1.0
_PROBES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchControlPolicy:
    """How long a run may delay the live jobs of its lanes.

    Attributes:
        target_s: How much longer its replays may wait in line than the least seen, > 0;
            where the least is more, twice that.
        least: Letters in a batch, >= 1.
        first: Letters in the first batch.
        most: Letters in a batch.
        growth: Letters that a batch grows by.
        unserved_s: When replays have not started for so long, and no worker speaks of
            their lane, nobody drains it.
        patience_s: When they have not started for so long, the smallest batch is sent
            all the same, so that a run always goes on.
    """

    target_s: float = 0.005
    least: int = 5
    first: int = 50
    most: int = 2_000
    growth: int = 5
    unserved_s: float = 3.0
    patience_s: float = 10.0


class BatchSize:
    """How many letters a batch may hold, by how long those before it waited.

    >>> batch = BatchSize(BatchControlPolicy(first=40, growth=5))
    >>> for waited_s in (0.010, 0.012, 0.090, 0.011):
    ...     batch.started(waited_s)
    >>> batch.size
    30
    """

    def __init__(self, policy: BatchControlPolicy) -> None:
        self._policy, self.size = policy, policy.first
        self._waits: deque[float] = deque(maxlen=_REMEMBERED)

    def started(self, waited_s: float) -> None:
        """Note how long after sending the last letters of a batch started."""
        self._waits.append(waited_s)
        policy = self._policy
        least_s = min(self._waits)
        if waited_s - least_s > max(policy.target_s, least_s):
            self.size = max(policy.least, self.size // 2)
        else:
            self.size = min(policy.most, self.size + policy.growth)

    def stuck(self) -> None:
        """Note that the last letters of a batch did not start in the time allowed."""
        self.size = self._policy.least


class BatchControl:
    """The batch sizes of one run. Owned by one task at a time.

    Args:
        claims: Says whether a replay has started.
        presence: Says which lanes are drained.
        clock: Monotonic.
        policy: How much.
    """

    def __init__(
        self,
        claims: ClaimStore,
        presence: PresenceStore,
        clock: Clock,
        policy: BatchControlPolicy,
    ) -> None:
        self._claims, self._presence, self._clock = claims, presence, clock
        self._policy, self._room = policy, BatchSize(policy)
        self._waiting: list[SampledReplay] = []
        self._sent_at = self._look_s = 0.0
        self._served: frozenset[str] = frozenset()
        self._unserved: set[str] = set()
        self._has_workers, self._is_free = False, True
        self._told_at: float | None = None
        self.held_s = 0.0

    def size(self, most: int) -> int:
        """How many letters the next batch may hold."""
        return most if self._is_free else min(most, self._room.size)

    def sent(self, samples: list[SampledReplay]) -> None:
        """Note what a batch sent; the start of each lane's last letters is watched."""
        now, last = self._clock.monotonic(), dict[str, list[SampledReplay]]()
        for sample in reversed(samples):
            of_lane = last.setdefault(sample.lane, [])
            if len(of_lane) < _PROBES and sample.lane not in self._unserved:
                of_lane.append(sample)
        self._waiting = [sample for of_lane in last.values() for sample in of_lane]
        self._is_free = not self._waiting or not self._has_workers
        self._sent_at, self._look_s = now, _FIRST_LOOK_S

    async def wait_s(self) -> float:
        """How long to wait before asking again; 0 when the next batch may be sent."""
        await self.hear()
        if not self._has_workers:
            self._waiting, self._look_s, self._is_free = [], 0.0, True
        self._waiting = [x for x in self._waiting if not await self._has_started(x)]
        waited_s = self._clock.monotonic() - self._sent_at
        self.held_s = waited_s if self._waiting else 0.0
        if not self._waiting:
            if self._look_s:
                self._room.started(waited_s)
                self._look_s = 0.0
            return 0.0
        if waited_s > self._policy.unserved_s:
            self._give_up_unserved()
        if waited_s > self._policy.patience_s:
            self._room.stuck()
            self._waiting, self._look_s = [], 0.0
        wait_s, self._look_s = self._look_s, min(_LOOK_S, self._look_s * _LOOK_LATER)
        return wait_s if self._waiting else 0.0

    async def _has_started(self, sample: SampledReplay) -> bool:
        try:
            status = await self._claims.status(sample.job_id)
        except StoreError:
            return False
        return status is not None and status.attempt > 0

    async def hear(self) -> None:
        """Read from time to time which workers drain which lanes."""
        now = self._clock.monotonic()
        if self._told_at is not None and now < self._told_at + _PRESENCE_EVERY_S:
            return
        self._told_at = now
        try:
            workers = await self._presence.workers()
        except StoreError:
            return
        if workers and not self._has_workers:
            self._is_free = False
        self._has_workers = bool(workers)
        self._served = frozenset(lane for one in workers for lane in _lanes(one))
        self._unserved -= self._served

    def _give_up_unserved(self) -> None:
        self._unserved |= {x.lane for x in self._waiting} - self._served
        self._waiting = [x for x in self._waiting if x.lane not in self._unserved]
        if not self._waiting:
            self._look_s = 0.0


def _lanes(worker: WorkerReport) -> set[str]:
    return {*worker.running, *worker.rate_per_s}
