"""How fast a run goes: at its own rate, and no faster than lanes start its replays.

The rate grows slowly to what the operator allows. Beside that, a run leaves room for
live jobs. The jobs of a lane wait in one queue, so a live job waits as long as a replay
does. The run watches the last letters of each batch and sends the next batch when they
have started, so that never more than one batch of replays waits. The size of a batch
follows from how much longer than the shortest wait seen its letters waited: it grows by
a little while that is short, and is halved when it is long (AIMD on delay, as LEDBAT
does, RFC 6817).

A lane that no worker drains has no live jobs to make room for: the run does not wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from shifter.deadletter.batch import SampledReplay
from shifter.errors import StoreError
from shifter.ports import ClaimStore, Clock, PresenceStore, WorkerReport

_BATCH_S: Final = 0.025
"""Length of a batch: live jobs of the same lane wait behind a whole batch."""

UNLIMITED_RAMP_PER_S: Final = 5_000.0
"""Rate at the end of the slow start of a run that has no rate of its own."""

_FIRST_LOOK_S: Final = 0.004
_LOOK_S: Final = 0.05
_LOOK_LATER: Final = 1.3
"""First and longest wait for the start of replays, and the factor between two waits."""

_REMEMBERED: Final = 200
"""Waits of which the shortest is the least seen."""

_PRESENCE_EVERY_S: Final = 1.0
"""Seconds between two readings of presence; a worker reports once a second."""

_PROBES: Final = 3
"""Letters of a lane that are watched at the end of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacePolicy:
    """How fast a run moves dead letters.

    Attributes:
        rate_per_s: Letters a second, > 0; ``None`` as fast as the log takes them.
        slow_start_s: Seconds until the run reaches that rate, >= 0.
        yields: Whether the run slows down for live jobs of the lanes it sends to.

    Raises:
        ValueError: A value is out of bounds.
    """

    rate_per_s: float | None = None
    slow_start_s: float = 5.0
    yields: bool = True

    def __post_init__(self) -> None:
        if self.rate_per_s is not None and not 0 < self.rate_per_s < 1e9:
            raise ValueError(f"rate_per_s is {self.rate_per_s}; > 0")
        if not 0 <= self.slow_start_s <= 86_400:
            raise ValueError(f"slow_start_s is {self.slow_start_s}; 0 to a day")


def wait_s(policy: PacePolicy, count: int) -> float:
    """Seconds after its start at which a run may have moved ``count`` letters.

    The rate grows evenly from nothing during the slow start, so by ``t`` it has moved
    ``rate * t² / (2 * slow_start)``, and half a slow start's worth at its end.

    Pure; grows with ``count``.

    >>> policy = PacePolicy(rate_per_s=100, slow_start_s=10)
    >>> wait_s(policy, 500), wait_s(policy, 600), wait_s(PacePolicy(slow_start_s=0), 9)
    (10.0, 11.0, 0.0)
    """
    rate = policy.rate_per_s
    ramp = policy.slow_start_s
    if rate is None:
        at_end = UNLIMITED_RAMP_PER_S * ramp / 2
        if count >= at_end:
            return float(ramp)
        rate = UNLIMITED_RAMP_PER_S
    at_end = rate * ramp / 2
    if count <= at_end and ramp:
        return float((2 * ramp * count / rate) ** 0.5)
    return ramp + (count - at_end) / rate


def batch_size(policy: PacePolicy, moved: int, *, most: int) -> int:
    """Number of letters in one batch: at most a fortieth of a second's worth.

    Args:
        policy: Pace of the run.
        moved: Letters that the run has moved, >= 0.
        most: Largest answer, >= 1.

    >>> batch_size(PacePolicy(rate_per_s=1_000, slow_start_s=0), 0, most=2_000)
    25
    >>> batch_size(PacePolicy(slow_start_s=0), 0, most=2_000)
    2000
    """
    if wait_s(policy, moved + most) <= wait_s(policy, moved):
        return most
    low, high = 1, most
    until = wait_s(policy, moved) + _BATCH_S
    while low < high:
        middle = (low + high + 1) // 2
        if wait_s(policy, moved + middle) <= until:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchControlPolicy:
    """How long a run may delay the live jobs of its lanes.

    Attributes:
        target_s: How much longer than the shortest wait seen replays may wait, > 0. If
            the shortest wait is longer than this, they may wait twice as long as it.
        least: Letters in the smallest batch, >= 1.
        first: Letters in the first batch.
        most: Letters in the largest batch.
        growth: Letters that a batch grows by.
        unserved_s: If replays have not started after this, and no worker reports their
            lane, the run takes the lane for one that no worker drains.
        patience_s: If replays have not started after this, the smallest batch is sent
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
    """The number of letters in a batch, by how long earlier batches waited.

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
        claims: Store that shows whether a replay has started.
        presence: Store of the workers' reports, which name the lanes they drain.
        clock: Monotonic clock.
        policy: Bounds of the batches.
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
        self._read_at: float | None = None
        self.held_s = 0.0

    def size(self, most: int) -> int:
        """How many letters the next batch may hold."""
        return most if self._is_free else min(most, self._room.size)

    def sent(self, samples: list[SampledReplay]) -> None:
        """Note what a batch sent; the start of each lane's last letters is watched."""
        now, last = self._clock.monotonic(), dict[str, list[SampledReplay]]()
        # The last letter of a lane starts last, since a lane keeps its order.
        for sample in reversed(samples):
            of_lane = last.setdefault(sample.lane, [])
            if len(of_lane) < _PROBES and sample.lane not in self._unserved:
                of_lane.append(sample)
        self._waiting = [sample for of_lane in last.values() for sample in of_lane]
        self._is_free = not self._waiting or not self._has_workers
        self._sent_at, self._look_s = now, _FIRST_LOOK_S

    async def wait_s(self) -> float:
        """How long to wait before asking again; 0 when the next batch may be sent."""
        await self.read_presence()
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

    async def read_presence(self) -> None:
        """Read which lanes workers drain, at most once a second."""
        now = self._clock.monotonic()
        if self._read_at is not None and now < self._read_at + _PRESENCE_EVERY_S:
            return
        self._read_at = now
        try:
            workers = await self._presence.workers()
        except StoreError:
            return
        # The first workers bring live jobs, which need room from now on.
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
