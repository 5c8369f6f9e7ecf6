"""What a member does when partitions come, go, or turn out to be elsewhere.

The client calls on the member's own thread, from within ``poll`` or ``consume``, and
waits for as long as this takes; heartbeats go on meanwhile. A callback never asks the
client for metadata: see `find_starts`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from shifter.adapters.kafka.assignment import Assignment, Committer, OwnedPartition
from shifter.adapters.kafka.errors import kafka_error, store_error
from shifter.adapters.kafka.loop_bridge import LoopBridge, Requests
from shifter.adapters.kafka.reader import Partition
from shifter.adapters.kafka.start_offsets import (
    REFUSE,
    Start,
    StartPlan,
    find_kept,
    find_starts,
    without,
)
from shifter.errors import StoreRefusedError
from shifter.policy.delivery.ack_metadata import Range
from shifter.ports import Clock, LostRange

# Less than half a session (10 s): a member that answers a rebalance late is expelled.
_REVOKE_S: Final = 3.0
_ASK_AGAIN_S: Final = 0.2
# A new topic has no leader for a moment, and a new broker has no topics yet: both pass
# by themselves, and are not reported.
_QUIET_S: Final = 5.0
_LOOK_S: Final = 2.0
_NOT_THERE: Final = frozenset(
    {"_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"}
)


class Rebalancer:
    """The client's rebalance callbacks. Owned by the member's thread.

    Args:
        plan: What starts depend on.
        assignment: What it changes.
        committer: Commits what goes away.
        requests: What was settled meanwhile, and whether to leave.
        bridge: Gets what was lost, refused and observed.
        clock: For time limits.

    Attributes:
        is_joined: Whether the group gave this member its share, if only an empty one.
        callbacks: How many callbacks were served, >= 0.
    """

    def __init__(
        self,
        plan: StartPlan,
        assignment: Assignment,
        committer: Committer,
        requests: Requests,
        bridge: LoopBridge,
        clock: Clock,
    ) -> None:
        self._plan, self._assignment, self._committer = plan, assignment, committer
        self._requests, self._bridge, self._clock = requests, bridge, clock
        self.is_joined, self.callbacks = False, 0
        # Partitions that the client stopped reading, and its position if it named one.
        self._stalled: dict[Partition, int | None] = {}
        # Partitions that are assigned here and that the client does not know yet.
        self._unknown: set[Partition] = set()
        self._ask_at = 0.0

    def subscribe(self, consumer: Consumer, topics: Sequence[str]) -> None:
        """Join the group."""
        consumer.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def settle(self) -> None:
        """Apply what was settled so far."""
        settled = self._requests.settled
        while settled:
            self._assignment.settle(settled.popleft())

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.callbacks += 1
        starts = self._starts(consumer, partitions) if partitions else {}
        self.is_joined = True
        offsets = []
        for place, start in starts.items():
            self._assignment.add(place, start)
            offsets.append(TopicPartition(*place, start.position))
            self._report(place, start)
        # What has no start is assigned, too: the client refuses to take partitions back
        # that it was not given. It is paused, so the place from which it would be read
        # does not count; one is named, since the client asks the broker for it else.
        unread = [
            TopicPartition(part.topic, part.partition, 0)
            for part in partitions
            if (part.topic, part.partition) not in starts
        ]
        consumer.incremental_assign([*offsets, *unread])
        if unread:
            consumer.pause(unread)
        if offsets:
            # A partition that was paused, went and came back is still paused.
            consumer.resume(offsets)
        self._bridge.observe("assigned", partitions=len(offsets))

    def _starts(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> dict[Partition, Start]:
        return self._wanted(self._insist_on_starts(consumer, partitions))

    def _wanted(self, found: dict[Partition, Start]) -> dict[Partition, Start]:
        """What of the starts may be used, after a report of topics without commits."""
        plan = self._plan
        unread: Counter[str] = Counter()
        for (topic, _), start in found.items():
            if start.past is not None:
                unread[topic] += start.past[1] - start.past[0]
        for topic, records in unread.items():
            self._report_no_commits(topic, records)
        if unread and plan.without_commits == REFUSE:
            return {}
        return found

    def _report_no_commits(self, topic: str, records: int) -> None:
        """Report what happens to a topic on which the group has no commit."""
        plan = self._plan
        if plan.without_commits == REFUSE:
            detail = (
                f"group {plan.group} has no commits on {topic}, which keeps {records} "
                "records: they are new, or the broker dropped the commits of a group "
                "that was away (offsets.retention.minutes); set without_commits to "
                "earliest to run them, or to latest to skip them"
            )
            self._bridge.refused(StoreRefusedError("kafka", "start", detail))
            return
        self._bridge.observe(
            "no_commits",
            topic=topic,
            records=records,
            group=plan.group,
            start=plan.without_commits,
        )

    def _insist_on_starts(
        self, consumer: Consumer, partitions: Sequence[TopicPartition]
    ) -> dict[Partition, Start]:
        """Ask until there is an answer; empty if there is none, or it leaves before.

        A wrong position would lose records, so there is no other way out of a cluster
        that does not answer than to wait for it, or to leave. Partitions that the
        client does not know are started by `start_late`, since it must ask for metadata
        first.
        """
        report_at = self._clock.monotonic() + _QUIET_S
        while not self._requests.is_leaving:
            try:
                return find_starts(consumer, partitions, self._plan)
            except KafkaException as exc:
                if self._clock.monotonic() > report_at:
                    report_at = self._clock.monotonic() + _QUIET_S
                    error = store_error(exc, "offsets")
                    if isinstance(error, StoreRefusedError):
                        self._bridge.refused(error)
                        break
                    self._bridge.observe("start_unknown", detail=str(error))
                if _is_unknown(exc):
                    self._unknown.update(_places(partitions))
                    break
                self._requests.wait(_ASK_AGAIN_S)
        return {}

    def start_late(self, consumer: Consumer) -> None:
        """Start partitions that the client did not know when they were assigned.

        Called outside of callbacks. A broker that has just started reports no topics.
        The client caches that until its own next request for metadata, which comes
        after 5 min by default, so it is made to ask now.
        """
        now = self._clock.monotonic()
        if not self._unknown or now < self._ask_at:
            return
        self._ask_at = now + _LOOK_S
        partitions = [TopicPartition(*place) for place in sorted(self._unknown)]
        try:
            consumer.list_topics(timeout=_LOOK_S)
            found = find_starts(consumer, partitions, self._plan)
        except KafkaException as exc:
            self._bridge.observe(
                "start_unknown", detail=str(store_error(exc, "offsets"))
            )
            return
        self._unknown.clear()
        for place, start in self._wanted(found).items():
            self._assignment.add(place, start)
            self._report(place, start)
            self._read_from(consumer, place, start.position)

    def _report(self, place: Partition, start: Start) -> None:
        if start.is_foreign:
            self._bridge.observe("made_again", topic=place[0], partition=place[1])
        for lost in start.lost:
            self._bridge.lost(LostRange(*place, *lost))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.callbacks += 1
        self._unknown.difference_update(_places(partitions))
        parts = self._assignment.of(_places(partitions))
        self._assignment.withdraw(parts)
        if not self._requests.is_leaving:
            self._await_started(parts)
        self.settle()
        self._committer.send_and_wait(consumer, parts)
        self._assignment.drop(parts)
        started = sum(len(part.started) for part in parts)
        self._bridge.observe("revoked", partitions=len(parts), unfinished=started)

    def _await_started(self, parts: Sequence[OwnedPartition]) -> None:
        """Let what has begun end, so that the next owner does not run it again."""
        until = self._clock.monotonic() + _REVOKE_S
        self.settle()
        while any(part.started for part in parts) and not self._requests.is_leaving:
            left_s = until - self._clock.monotonic()
            if left_s <= 0:
                return
            self._requests.wait(left_s)
            self.settle()

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Commit nothing: other members own these, a commit might undo their work."""
        self.callbacks += 1
        self._unknown.difference_update(_places(partitions))
        parts = self._assignment.of(_places(partitions))
        self._assignment.drop(parts)
        self._bridge.observe("membership_lost", partitions=len(parts))

    def restart(self, consumer: Consumer, event: Message) -> None:
        """Go on where the log still is, after the client found its place gone."""
        place = (event.topic() or "", event.partition() or 0)
        self._stalled[place] = event.offset()
        self.go_on(consumer)

    def go_on(self, consumer: Consumer) -> None:
        """Restart those partitions whose place is gone that can be read now.

        The log of a partition cannot be asked for while its topic does not exist. The
        member does not wait for it: its other partitions and its group go on.
        """
        for place, missed in list(self._stalled.items()):
            part = self._assignment.parts.get(place)
            if part is not None:
                try:
                    topic_id = self._plan.ids([place[0]]).get(place[0])
                    kept = find_kept(consumer, place)
                except KafkaException as exc:
                    if _is_unknown(exc):
                        with contextlib.suppress(KafkaException):
                            consumer.list_topics(timeout=_LOOK_S)
                    continue
                self._go_on(consumer, part, missed, topic_id, kept)
            del self._stalled[place]

    def _go_on(
        self,
        consumer: Consumer,
        part: OwnedPartition,
        missed: int | None,
        topic_id: str | None,
        kept: Range,
    ) -> None:
        is_other = part.topic_id is not None and topic_id not in (None, part.topic_id)
        if is_other or part.acks.position > kept[1]:
            self._begin_at(consumer, part.place, kept[0], topic_id)
        else:
            self._move_on(part, kept, missed)
            self._read_from(consumer, part.place, part.acks.position)

    def begin_anew(self, consumer: Consumer, ids: Mapping[str, str]) -> None:
        """Read from their start those topics whose partitions here are of another id.

        Args:
            consumer: The client.
            ids: Of topics, as last answered.

        Raises:
            KafkaException: A partition is not there yet; call again.
        """
        for part in list(self._assignment.parts.values()):
            topic_id = ids.get(part.place[0])
            if topic_id is None or topic_id == part.topic_id:
                continue
            if part.topic_id is None:
                # The topic's id was not available when the partition was assigned.
                part.topic_id, part.is_dirty = topic_id, True
                continue
            low, _ = find_kept(consumer, part.place)
            self._begin_at(consumer, part.place, low, topic_id)

    def _begin_at(
        self, consumer: Consumer, place: Partition, low: int, topic_id: str | None
    ) -> None:
        lost = [(0, low)] if low > 0 else []
        start = Start(low, lost=lost, is_foreign=True, topic_id=topic_id)
        self._report(place, start)
        self._assignment.add(place, start)
        self._read_from(consumer, place, low)

    def _read_from(self, consumer: Consumer, place: Partition, position: int) -> None:
        there = TopicPartition(*place, position)
        # A client that has stopped reading a partition cannot seek in it.
        consumer.incremental_unassign([there])
        consumer.incremental_assign([there])
        consumer.resume([there])
        for part in self._assignment.of([place]):
            part.is_paused, self._assignment.has_shifted = False, True

    def _move_on(self, part: OwnedPartition, kept: Range, missed: int | None) -> None:
        """Account for what retention took from before a partition's position.

        Args:
            part: The partition whose place is gone.
            kept: Offsets the log holds now.
            missed: The first offset the client could not read; ``None`` if unnamed.
        """
        (low, _), position = kept, part.acks.position
        if position < low:
            first = position if missed is None else max(position, missed)
            for lost in without((first, low), part.acks.ahead()):
                self._bridge.lost(LostRange(*part.place, *lost))
            part.acks.reach(low)
            part.is_dirty = True


def _is_unknown(exc: KafkaException) -> bool:
    """Whether the client does not know the partition that it was asked about."""
    error = kafka_error(exc)
    return error is not None and error.name() in _NOT_THERE


def _places(partitions: Iterable[TopicPartition]) -> list[Partition]:
    return [(at.topic, at.partition) for at in partitions]
