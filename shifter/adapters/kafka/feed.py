"""The draining side of the log on Kafka, as the event loop sees it.

A member of the group reads on a thread of its own (`shifter.adapters.kafka.member`);
deliveries come over in batches, one wake-up each
(`shifter.adapters.kafka.loop_bridge`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence, Set as AbstractSet

from shifter.adapters.kafka.config import KafkaConfig
from shifter.adapters.kafka.loop_bridge import LoopBridge, Observer
from shifter.adapters.kafka.member import Member, MemberPlan
from shifter.adapters.kafka.start_offsets import EARLIEST
from shifter.adapters.kafka.topic_ids import TopicIds
from shifter.policy.delivery.ack_map import WINDOW
from shifter.ports import (
    AppendAnswer,
    Clock,
    Delivery,
    FeedCounts,
    LaneLog,
    LostRange,
    Record,
)


class KafkaLaneFeed:
    """`shifter.ports.LaneFeed` on Kafka: one member of a consumer group.

    `settle` returns at once: the log remembers within the commit interval. A feed that
    was opened must be closed. One feed is opened once.

    Args:
        config: The cluster.
        topics: Lanes to drain; all must exist.
        group: Feeds of one group share the lanes' partitions.
        writer: Writes successors.
        clock: A real one: waits are kept on the event loop's own timers.
        commit_interval_s: Seconds between commits, > 0.
        window: Records read since a partition's frontier, at most; a partition that
            has more is not read until its oldest records end. >= 2.
        observer: As of `shifter.adapters.kafka.loop_bridge.LoopBridge`.
        ids: Finds topics that were made again, for all feeds of a process.
        without_commits: Where to begin a topic that keeps records and on which the
            group has no commit: ``earliest``, ``latest`` or ``refuse``.
    """

    def __init__(  # noqa: PLR0913  # made in one place, by the composition root
        self,
        config: KafkaConfig,
        topics: Sequence[str],
        *,
        group: str,
        writer: LaneLog,
        clock: Clock,
        commit_interval_s: float = 0.5,
        window: int = WINDOW,
        observer: Observer | None = None,
        ids: TopicIds | None = None,
        without_commits: str = EARLIEST,
    ) -> None:
        plan = MemberPlan(
            config.consumer_config(group),
            tuple(topics),
            group,
            commit_interval_s,
            window,
            ids,
            without_commits,
        )
        self._writer, self._bridge = writer, LoopBridge(observer)
        self._member = Member(plan, self._bridge, clock)
        self._is_opened = False

    async def open(self) -> None:
        """Join the group; returns when this member has its share, or within 20 s.

        The share may be empty: there can be more members than partitions, and a broker
        that balances the group itself does not report that. Opening twice is harmless.

        Raises:
            ConfigError: librdkafka refuses a property.
            StoreRefusedError: A topic does not exist, or the cluster refuses.
            StoreUnavailableError: No broker answered.
        """
        if not self._is_opened:
            self._is_opened = True
            self._bridge.attach()
            self._member.start()
        await self._bridge.until_opened()

    async def fetch(self, max_records: int, *, wait_s: float) -> list[Delivery]:
        """At most ``max_records`` deliveries; empty when none came within the wait.

        Trouble on the way to the cluster is not raised, since the client tries on.

        Raises:
            StoreRefusedError: The cluster refuses. If it takes away a right that this
                member had, that is logged, and the client asks again.
            StoreUnavailableError: The client broke for good.
        """
        if not self._is_opened:
            return []
        bridge = self._bridge
        bridge.check()
        if not bridge.has_arrivals and not bridge.is_over.is_set():
            self._member.requests.want(max_records)
            await bridge.until_arrival(wait_s)
            bridge.check()
        return bridge.take(max_records)

    def rest(self, topics: AbstractSet[str]) -> None:
        """Read nothing of these lanes from now on, and of all others again.

        Takes effect with the next fetch; what was read before may still come.
        """
        self._member.requests.rest(topics)

    def begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Note that these start now; returns those this member still owns."""
        return self._member.assignment.begin(deliveries)

    async def hand_over(
        self, pairs: Sequence[tuple[Delivery, Record]], *, timeout_s: float
    ) -> list[AppendAnswer]:
        """Write each delivery's successor; the delivery itself is not settled."""
        records = [record for _, record in pairs]
        return await self._writer.append(records, timeout_s=timeout_s)

    async def settle(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries; those taken away meanwhile are ignored. Returns at once."""
        if deliveries:
            self._member.requests.settle(deliveries)

    def losses(self) -> list[LostRange]:
        """Ranges found lost since the last call."""
        return self._bridge.losses()

    def counts(self) -> FeedCounts:
        """What this member counted so far."""
        return self._member.counts()

    def competes(self) -> bool:
        """No: the group gives each partition to one member."""
        return False

    def partitions(self) -> dict[str, list[int]]:
        """The partitions that the group has given to this member, by topic."""
        return self._member.assignment.partitions()

    def idle(self) -> bool:
        """Whether every owned record has ended and the log was found to hold no more.

        The broker reports that about half a second after the last record was read.
        """
        member = self._member
        return not member.requests.settled and member.assignment.is_idle()

    @property
    def epochs(self) -> frozenset[int]:
        """Epochs of deliveries that may still begin; another set after a rebalance."""
        return self._member.assignment.epochs

    def hold(self, epochs: frozenset[int]) -> None:
        """Read no more of these partitions, and of all others again.

        Takes effect with the next fetch; what was read before may still come.
        """
        self._member.requests.hold(epochs)

    async def close(self, *, timeout_s: float) -> None:
        """Commit what was settled, leave the group, free everything.

        Closing twice is harmless. When the time is up the thread is left to itself.
        """
        if not self._is_opened:
            return
        self._member.requests.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._bridge.is_over.wait()
        self._bridge.check_for_bugs()
