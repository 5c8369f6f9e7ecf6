"""Items, a feed and a drain's shared state, for tests of single stages of a worker."""

from __future__ import annotations

import itertools
import uuid

from shifter import Shifter
from shifter.adapters.memory.state import MemoryClaimStore
from shifter.config import Settings
from shifter.fleet.hours import Hours
from shifter.fleet.replica import FleetReplica
from shifter.model.lane import Lane, Priority
from shifter.ports import Appended, Delivery, FeedCounts
from shifter.telemetry import WorkerMetrics
from shifter.testing.clock import FakeClock
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.headers import build_headers
from shifter.work.buffer import Buffer
from shifter.work.claiming import Claiming
from shifter.work.completer import Completer
from shifter.work.delay_queue import DelayQueue
from shifter.work.dependency_gate import DependencyGate
from shifter.work.item import Item, ItemReader
from shifter.work.job_observer import JobObserver
from shifter.work.lane_gate import LaneGate
from shifter.work.next_step import Moment, NextSteps
from shifter.work.state import DrainState
from shifter.work.waiting_limits import WaitingLimits

LANES = {
    lane.name: lane
    for lane in (Lane("shop", "default", priority) for priority in Priority)
}
LANE = LANES["shop.default.normal"]


class ScriptedFeed:
    """Remembers what it was told; answers as scripted, else `Appended`."""

    def __init__(self) -> None:
        self.settled: list[Delivery] = []
        self.records: list = []
        self.answers: list = []
        self.taken_away: set[int] = set()
        self.batches: list[list[Delivery]] = []
        self.has_mates = False

    async def fetch(self, max_records, *, wait_s):
        return self.batches.pop(0) if self.batches else []

    def begin(self, deliveries):
        return [one for one in deliveries if one.offset not in self.taken_away]

    async def hand_over(self, pairs, *, timeout_s):
        self.records += [record for _, record in pairs]
        return [self.answers.pop(0) if self.answers else Appended() for _ in pairs]

    async def settle(self, deliveries):
        self.settled += deliveries

    def losses(self):
        return []

    def competes(self):
        return self.has_mates

    def partitions(self):
        return {}

    def counts(self):
        return FeedCounts()

    def rest(self, topics):
        self.resting = topics


class Stages:
    """What the stages of a drain share, over memory and a clock that is set by hand."""

    def __init__(self, **options) -> None:
        self.clock, self.app = (
            FakeClock(),
            Shifter("shop", settings=Settings(namespace="shop")),
        )

        @self.app.job(name="ping", **options)
        async def ping() -> None: ...

        self.feed, self.store = ScriptedFeed(), MemoryClaimStore(self.clock)
        self.metrics, self.offsets = WorkerMetrics(), itertools.count()
        self.ready: list[Item] = []
        self.gave_up: list[Exception] = []
        observer = JobObserver(self.metrics, self.clock, worker="w1")
        replica = FleetReplica([], self.clock, process="w1", observer=observer, seed=1)
        limits = WaitingLimits(LANES, records=100, budget_bytes=1 << 20)
        buffer = Buffer(LANES, limits)
        feeds = dict.fromkeys(Priority, self.feed)
        specs = {name: job.spec for name, job in self.app.handlers.items()}
        gate = LaneGate(
            lanes=LANES,
            feeds=feeds,
            specs=specs,
            buffer=buffer,
            replica=replica,
            clock=self.clock,
            slots=4,
            opened=lambda: None,
            hours=Hours(self.clock, {}),
        )
        self.state = DrainState(
            clock=self.clock,
            moment=self.moment,
            limits=limits,
            buffer=buffer,
            delayed=DelayQueue(self.clock, self.ready.append, limits),
            lane_gate=gate,
            dependency_gate=DependencyGate(replica, observer),
            claiming=Claiming(
                self.store, self.clock, observer, owner="w1", lease_ms=1_000
            ),
            next_steps=NextSteps("w1"),
            observer=observer,
        )

    def completer(self) -> Completer:
        return Completer(
            self.state,
            self.store,
            1.0,
            fewer=lambda: None,
            give_up=self.gave_up.append,
        )

    def moment(self) -> Moment:
        return Moment(self.clock.epoch_ms(), self.clock.monotonic(), 0.5)

    def delivery(self, job_type: str = "ping", **facts) -> Delivery:
        lane = LANES[facts.pop("topic", LANE.name)]
        facts = {"id": str(uuid.uuid4()), "attempt": 1, "turn": 1} | facts
        headers = build_headers(
            EnvelopeV1(v=1, type=job_type, **facts),
            content_type="application/json",
            extra=[],
        )
        return Delivery(
            topic=lane.name,
            key=None,
            value=b"{}",
            headers=headers,
            appended_ms=self.clock.epoch_ms(),
            partition=0,
            offset=next(self.offsets),
        )

    def item(self, job_type: str = "ping", **facts) -> Item:
        """A delivery of this job type, read."""
        reader = ItemReader(LANES, self.app.handlers)
        delivery = self.delivery(job_type, **facts)
        item = reader.read(delivery, self.feed, self.clock.epoch_ms())
        assert isinstance(item, Item)
        return item

    async def granted(self, job_type: str = "ping", **facts) -> Item:
        """The same, with a claim."""
        item = self.item(job_type, **facts)
        claimed = await self.state.claiming.ask([item])
        assert claimed.run == [item]
        return item
