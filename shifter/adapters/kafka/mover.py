"""Moves delayed records along the ladder of delay topics, and at last to their lanes.

Every record waits exactly its tier's time in one topic, so each partition is first in,
first out and only its next few seconds are held in memory; the rest stays in the log. A
partition is held back as soon as its newest record lies far enough ahead, and, when the
heap is full, as soon as it takes more than its share: a long tier can never stand in
the way of a short one.

What is due goes out in one append. The source is settled only when the append is
acknowledged, so a crash at any point moves a record twice at worst, which the claim
store makes harmless. Nothing is moved to its lane before it is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Final

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.feed import KafkaLaneFeed
from shifter.adapters.kafka.ladder import Destination, Hop, HopPlanner
from shifter.adapters.kafka.start_offsets import EARLIEST
from shifter.adapters.kafka.topic_ids import TopicIds
from shifter.errors import StoreRefusedError
from shifter.model.reason import PASSING, Reason
from shifter.ports import Appended, Clock, LaneLog, Refused, Rushed, Unknown
from shifter.telemetry import Event, Log
from shifter.telemetry.log import LimitedLog

LIMIT: Final = 50_000
"""Hops on the heap above which each partition keeps to its share."""

# How many records must agree that a partition was read far enough: the time of a single
# record may come from a clock that is wrong.
_WITNESSES: Final = 16
# A partition is read until its newest record lies this far ahead. The shorter distance
# applies from a half-full heap on, and to a partition that is held, so that it is not
# held and read in turns.
_NEAR_MS: Final = 2_000
_FAR_MS: Final = 10_000
_FETCH: Final = 1_000
_FETCH_WAIT_S: Final = 0.5
_BATCH: Final = 2_000
# Longer than the client's own time limit (message.timeout.ms, 30 s), whose answer names
# the cause.
_APPEND_S: Final = 35.0
_BACKOFF_S: Final = (0.2, 1.0, 5.0, 15.0)
# One append is under way at a time, unless it takes longer than this: a lane that the
# cluster has to look for must not hold up the others.
_PATIENCE_S: Final = 0.05
_MOST_APPENDS: Final = 8
# The longest sleep, so that a wall clock that was set forward is noticed.
_NAP_S: Final = 1.0
_LAND_S: Final = 5.0
_CLOSE_S: Final = 10.0
# Hops that may be under way at once without holding up their partition.
_WINDOW: Final = 50_000
_TRY_AGAIN: Final = PASSING | {Reason.CLOSED}
_TUNING: Final = {
    "queued.min.messages": "2000",
    "queued.max.messages.kbytes": "4096",
}


class DelayHeap:
    """Hops, ordered by the time when they may start. Owned by one task at a time.

    Args:
        limit: Number of hops above which each partition keeps to its share, > 0.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._heap: list[tuple[int, int, Hop]] = []
        self._serial = 0
        self._count: Counter[int] = Counter()
        self._newest_ms: defaultdict[int, deque[int]]
        self._newest_ms = defaultdict(lambda: deque(maxlen=_WITNESSES))
        self._held: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_ms(self) -> int | None:
        """When the next hop may start, epoch milliseconds; ``None`` without one."""
        return self._heap[0][0] if self._heap else None

    def read(self, hop: Hop) -> None:
        """Keep a hop that was just read from its partition."""
        self._newest_ms[hop.delivery.epoch].append(hop.ready_ms)
        self.put(hop)

    def put(self, hop: Hop) -> None:
        """Keep a hop until it is ready."""
        self._count[hop.delivery.epoch] += 1
        self._serial += 1
        heapq.heappush(self._heap, (hop.ready_ms, self._serial, hop))

    def take_ready(self, now_ms: int, most: int) -> list[Hop]:
        """Remove and return at most ``most`` hops that are ready, in order of time."""
        heap = self._heap
        ready: list[Hop] = []
        while heap and heap[0][0] <= now_ms and len(ready) < most:
            hop = heapq.heappop(heap)[2]
            self._count[hop.delivery.epoch] -= 1
            ready.append(hop)
        return ready

    def keep_only(self, epochs: frozenset[int]) -> None:
        """Drop hops of partitions that this member no longer owns."""
        self._heap = [one for one in self._heap if one[2].delivery.epoch in epochs]
        heapq.heapify(self._heap)
        self._count = Counter(one[2].delivery.epoch for one in self._heap)
        for gone in self._newest_ms.keys() - epochs:
            del self._newest_ms[gone]

    def replan(self, hastened: Callable[[Hop], None]) -> None:
        """Call ``hastened`` for each, which may lower `Hop.ready_ms`; sort anew."""
        for _, _, hop in self._heap:
            hastened(hop)
        self._heap = [(hop.ready_ms, number, hop) for _, number, hop in self._heap]
        heapq.heapify(self._heap)

    def to_hold(self, now_ms: int, *, reads_on: bool = False) -> frozenset[int]:
        """Epochs of the partitions that should not be read further for now.

        The same object as long as nothing changes.

        Args:
            now_ms: Epoch milliseconds.
            reads_on: Whether partitions are read past the next seconds too.
        """
        is_full = len(self._heap) >= self._limit
        share = self._limit // max(1, len(self._newest_ms))
        far_ms = _FAR_MS if len(self._heap) < self._limit // 2 else _NEAR_MS
        held = frozenset(
            epoch
            for epoch, newest_ms in self._newest_ms.items()
            if (
                not reads_on
                and min(newest_ms) - now_ms
                > (_NEAR_MS if epoch in self._held else far_ms)
            )
            or (is_full and self._count[epoch] > share)
        )
        if held != self._held:
            self._held = held
        return self._held


class KafkaDelayMover:
    """`shifter.ports.DelayMover` on Kafka. Any number of them share the work.

    Args:
        config: The cluster.
        namespace: Owner of the delay topics.
        writer: Writes the moved records.
        clock: A real one.
        limit: Records held in memory at once, about; > 0.
        ids: As of `KafkaLaneFeed`.
        without_commits: As of `KafkaLaneFeed`.

    Attributes:
        counts: Records by what became of them: ``onward`` (to the next tier or their
            lane), ``ladder`` (put back), ``dead_letter``, ``again`` (an append that
            has to be repeated).
    """

    def __init__(  # noqa: PLR0913  # made in one place, by the composition root
        self,
        config: KafkaConfig,
        namespace: str,
        writer: LaneLog,
        clock: Clock,
        *,
        limit: int = LIMIT,
        ids: TopicIds | None = None,
        without_commits: str = EARLIEST,
    ) -> None:
        self._writer, self._clock = writer, clock
        self._planner = HopPlanner(namespace)
        self._heap = DelayHeap(limit)
        self._feed = KafkaLaneFeed(
            KafkaConfig(config.bootstrap, {**config.properties, **_TUNING}),
            self._planner.topics,
            group=KafkaConfig.group(namespace, "delay"),
            writer=writer,
            clock=clock,
            window=_WINDOW,
            ids=ids,
            without_commits=without_commits,
        )
        self._epochs: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._appends: set[asyncio.Task[None]] = set()
        self._log = Log(namespace=namespace)
        self._limited = LimitedLog(self._log)
        self.counts: Counter[str] = Counter()

    def rush(self, wanted: Rushed | None) -> None:
        """From now on also move wanted records that only wait for a window.

        Tiers are then read past what is due soon, as far as the heap has room.
        """
        self._planner.wanted = wanted
        if wanted is not None:
            now_ms = self._clock.epoch_ms()
            self._heap.replan(lambda hop: self._planner.hasten(hop, now_ms))
            self._changed.set()

    async def run(self) -> None:
        """Move until cancelled; appends under way are then awaited. Call it once.

        Raises:
            StoreRefusedError: A delay topic does not exist, or the cluster refuses.
            StoreUnavailableError: No broker answered, or the client failed for good.
        """
        try:
            await self._feed.open()
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read())
                try:
                    await self._move_ready(group)
                finally:
                    reading.cancel()
                    if self._appends:
                        await asyncio.wait(self._appends, timeout=_LAND_S)
        finally:
            self._limited.close()
            await self._feed.close(timeout_s=_CLOSE_S)

    async def _read(self) -> None:
        """Keep the heap filled with what becomes ready soon."""
        feed, heap, plan = self._feed, self._heap, self._planner.plan
        while True:
            batch = await feed.fetch(_FETCH, wait_s=_FETCH_WAIT_S)
            now_ms = self._clock.epoch_ms()
            for delivery in batch:
                heap.read(plan(delivery, now_ms))
            if feed.epochs is not self._epochs:
                self._epochs = feed.epochs
                heap.keep_only(self._epochs)
            is_rushed = self._planner.wanted is not None
            feed.hold(heap.to_hold(now_ms, reads_on=is_rushed))
            if batch:
                self._changed.set()
            self._limited.write_left_out(self._clock.monotonic())
            for lost in feed.losses():
                self._log.error(Event.RECORDS_LOST, **lost._asdict())

    async def _move_ready(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._changed.clear()
            ready = self._heap.take_ready(self._clock.epoch_ms(), _BATCH)
            if not ready:
                await self._nap()
                continue
            task = group.create_task(self._move(ready))
            self._appends.add(task)
            task.add_done_callback(self._appends.discard)
            while len(self._appends) >= _MOST_APPENDS:
                await asyncio.wait(self._appends, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([task], timeout=_PATIENCE_S)

    async def _nap(self) -> None:
        """Sleep until the next hop is ready, or there is another one."""
        next_ms, wait_s = self._heap.next_ms, _NAP_S
        if next_ms is not None:
            left_ms = max(1, next_ms - self._clock.epoch_ms())
            wait_s = min(wait_s, left_ms / 1_000)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    async def _move(self, hops: Sequence[Hop]) -> None:
        """Append what follows, settle what was acknowledged, reroute the rest."""
        now_ms, leaving, records = self._clock.epoch_ms(), [], []
        owned = set(map(id, self._feed.begin([hop.delivery for hop in hops])))
        for hop in hops:
            if id(hop.delivery) not in owned:
                continue
            record = self._planner.step(hop, now_ms)
            if record is None:
                self._heap.put(hop)
            else:
                leaving.append(hop)
                records.append(record)
        answers = await self._writer.append(records, timeout_s=_APPEND_S)
        landed = []
        for hop, answer in zip(leaving, answers, strict=True):
            if isinstance(answer, Appended):
                self.counts[hop.destination.value] += 1
                landed.append(hop.delivery)
            else:
                self._not_taken(hop, answer)
        await self._feed.settle(landed)

    def _not_taken(self, hop: Hop, answer: Refused | Unknown) -> None:
        """Try again where that may help, else go another way.

        Raises:
            StoreRefusedError: The cluster refuses this machine's clock: others move.
        """
        if isinstance(answer, Refused) and answer.reason == Reason.CLOCK_REFUSED:
            raise StoreRefusedError("kafka", "append", answer.detail)
        now_ms = self._clock.epoch_ms()
        is_final = isinstance(answer, Refused) and answer.reason not in _TRY_AGAIN
        if is_final and hop.destination is not Destination.LADDER:
            self._planner.reroute(hop, answer.detail, now_ms)
            facts = {
                "destination": hop.destination.value,
                "topic": hop.record.topic,
                "detail": answer.detail,
            }
            now, by = self._clock.monotonic(), ("destination", "topic")
            event = Event.APPEND_REFUSED
            self._limited.write(logging.WARNING, event, facts, by=by, now=now)
            hop.ready_ms = now_ms
        else:
            backoff_s = _BACKOFF_S[min(hop.tries, len(_BACKOFF_S) - 1)]
            hop.ready_ms = now_ms + int(backoff_s * 1_000)
            self.counts["again"] += 1
        hop.tries += 1
        self._heap.put(hop)
        self._changed.set()
