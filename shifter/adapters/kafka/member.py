"""One member of a group: a consumer, and the one thread that ever touches it.

Each turn of the thread applies what was settled, commits when it is time, and serves a
fetch if one waits. It blocks in ``poll`` for the first record and takes what else is
there with ``consume(n, 0)``, so that a record is handed over the moment it comes. While
no fetch waits nothing is read; when that lasts, partitions are paused, so that polling
can go on and the member stays alive. Not earlier: pausing discards what the client has
fetched ahead.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Final, NamedTuple

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from shifter.adapters.kafka.assignment import Assignment, Committer, OwnedPartition
from shifter.adapters.kafka.config import Property
from shifter.adapters.kafka.errors import LastError, describe, make_client, store_error
from shifter.adapters.kafka.loop_bridge import LoopBridge, Requests
from shifter.adapters.kafka.rebalance import Rebalancer
from shifter.adapters.kafka.start_offsets import EARLIEST, StartPlan
from shifter.adapters.kafka.topic_ids import TopicIds
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.ports import Clock, FeedCounts

# Records end a poll at once, so its length delays only commits and requests to leave.
_POLL_S: Final = 0.1
_REST_AFTER_S: Final = 1.0
_CONNECT_S: Final = 10.0
# The first share of a group of four comes after 2 to 7 s (measured on 4.3), by protocol
# and timers; a member that waits longer opens with none.
_JOIN_S: Final = 10.0
_SLICE_S: Final = 0.5
# How long a topic may be unknown to a broker before it counts as missing: at the start,
# when the topic may be new, and later, when the broker may have just started.
_NEW_TOPIC_S: Final = 2.0
_DOUBT_S: Final = 5.0
# How often a missing topic is reported again.
_GONE_AGAIN_S: Final = 60.0
_LOOK_S: Final = 0.5
# How long the client may take to give up its partitions at the end, and how long it
# is polled at a time.
_GIVE_UP_S: Final = 3.0
_SERVE_S: Final = 0.02
_MOST: Final = 1_000

_END: Final = "_PARTITION_EOF"
_GONE: Final = "_AUTO_OFFSET_RESET"
_UNKNOWN_TOPIC: Final = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"})
_BROKEN: Final = frozenset(
    {"_FATAL", "FENCED_INSTANCE_ID", "INCONSISTENT_GROUP_PROTOCOL"}
)


class MemberPlan(NamedTuple):
    """What a member is to do.

    Attributes:
        properties: Of its consumer.
        topics: What it subscribes to.
        group: Which group it joins.
        commit_interval_s: Seconds between commits, > 0.
        window: Records read since a partition's frontier, at most, >= 2.
        ids: Finds topics that were deleted and made again; ``None`` to skip that.
        without_commits: As in `shifter.adapters.kafka.start_offsets.StartPlan`.
    """

    properties: Mapping[str, Property]
    topics: Sequence[str]
    group: str
    commit_interval_s: float
    window: int
    ids: TopicIds | None = None
    without_commits: str = EARLIEST


class Member:
    """Everything here but `start` runs on the member's own thread.

    Attributes:
        requests: What other threads ask of this one.
        assignment: The partitions it owns.
        last: The last error of its client.
    """

    def __init__(self, plan: MemberPlan, bridge: LoopBridge, clock: Clock) -> None:
        self._plan, self._bridge, self._clock = plan, bridge, clock
        # Full as soon as one more batch might not fit.
        self._most = max(1, min(_MOST, plan.window // 2))
        self.requests, self.last = Requests(), LastError()
        self.assignment = Assignment(max(1, plan.window - self._most))
        self._committer = Committer(plan.group, self.assignment, self._commit_failed)
        ask_ids = _no_ids if plan.ids is None else plan.ids.ask
        self._partitions: dict[str, Sequence[int]] = {}
        start = StartPlan(plan.group, ask_ids, plan.without_commits, self._partitions)
        self._rebalancer = Rebalancer(
            start, self.assignment, self._committer, self.requests, bridge, clock
        )
        self._held: frozenset[int] = frozenset()
        self._rested: AbstractSet[str] = frozenset()
        self._is_resting = False
        self._unwanted_since: float | None = None
        self._commit_at = 0.0
        self._doubt_at: float | None = None
        self._has_read = False
        self._look_at = 0.0

    def start(self) -> None:
        """Start the thread."""
        name = f"shifter-kafka-{self._plan.group}"
        # A daemon, since `close` leaves the thread to itself after its timeout.
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def counts(self) -> FeedCounts:
        """What was counted so far. From any thread."""
        committer, gap = self._committer, self.assignment.frontier_gap()
        changes = self._rebalancer.callbacks
        return FeedCounts(changes, committer.done, committer.failures, gap)

    def _run(self) -> None:
        cause: BaseException | None = None
        try:
            consumer = make_client(
                Consumer,
                {
                    **self._plan.properties,
                    "enable.partition.eof": True,
                    "on_commit": self._committer.reported,
                },
                self.last,
            )
            try:
                self._work(consumer)
            finally:
                self._leave(consumer)
        except KafkaException as exc:
            cause = store_error(exc, "fetch", self.last)
        except BaseException as exc:  # noqa: BLE001  # raised by the next fetch
            cause = exc
        self._bridge.ended(cause)

    def _work(self, consumer: Consumer) -> None:
        self._await_topics(consumer)
        self._rebalancer.subscribe(consumer, self._plan.topics)
        until = self._clock.monotonic() + _JOIN_S
        while not self._rebalancer.is_joined and self._clock.monotonic() < until:
            if self.requests.is_leaving:
                return
            self._take(consumer, consumer.poll(_POLL_S))
        self._bridge.opened()
        while not self.requests.is_leaving:
            self._turn(consumer)

    def _await_topics(self, consumer: Consumer) -> None:
        """Return once all topics are known.

        Raises:
            StoreRefusedError: A topic is missing, or the cluster refuses the login.
            StoreUnavailableError: No broker answered in time.
        """
        began = self._clock.monotonic()
        while not self.requests.is_leaving:
            waited_s = self._clock.monotonic() - began
            try:
                missing = self._missing(consumer)
            except KafkaException as exc:
                consumer.poll(0)
                if self.last.is_cause or waited_s > _CONNECT_S:
                    raise store_error(exc, "connect", self.last) from exc
                continue
            if missing is None:
                return
            if waited_s > _NEW_TOPIC_S:
                raise missing
            self.requests.wait(_SLICE_S)

    def _missing(self, consumer: Consumer) -> StoreRefusedError | None:
        known = consumer.list_topics(timeout=_SLICE_S).topics
        for topic in self._plan.topics:
            if topic not in known:
                detail = (
                    f"no topic {topic!r}, or not visible to this user; create it with "
                    "`shifter topics apply`"
                )
                return StoreRefusedError("kafka", "subscribe", detail)
            self._partitions[topic] = sorted(known[topic].partitions)
        return None

    def _turn(self, consumer: Consumer) -> None:
        now = self._clock.monotonic()
        self._rebalancer.settle()
        self._rebalancer.start_late(consumer)
        if now >= self._commit_at:
            self._commit_at = now + self._plan.commit_interval_s
            self._committer.send(consumer, self.assignment.parts.values())
        self._look(consumer, now)
        wanted = self.requests.wanted
        if self._is_to_rest(now, wanted=wanted) is not self._is_resting:
            self._is_resting = not self._is_resting
            self.assignment.has_shifted = True
        if (
            self.assignment.has_shifted
            or self.requests.held is not self._held
            or self.requests.rested is not self._rested
        ):
            self._direct(consumer)
        if wanted:
            first = consumer.poll(_POLL_S)
            if first is not None:
                most = min(wanted, self._most) - 1
                more = consumer.consume(most, 0) if most else []
                self._take(consumer, first, *more)
        else:
            self.requests.wait(_POLL_S)
            if self._is_resting:
                self._take(consumer, consumer.poll(0))

    def _look(self, consumer: Consumer, now: float) -> None:
        """Check at intervals whether the topics still exist, and are still the same."""
        if self._doubt_at is not None and now >= self._doubt_at:
            self._resolve_doubt(consumer)
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_S
        self._rebalancer.go_on(consumer)
        ids = self._plan.ids
        if ids is None:
            return
        # A topic that cannot be read from its start yet is looked at again.
        with contextlib.suppress(KafkaException):
            self._rebalancer.begin_anew(consumer, ids.latest(self._plan.topics))

    def _is_to_rest(self, now: float, *, wanted: int) -> bool:
        if wanted:
            self._unwanted_since = None
            return False
        if self._unwanted_since is None:
            self._unwanted_since = now
        return now - self._unwanted_since >= _REST_AFTER_S

    def _direct(self, consumer: Consumer) -> None:
        """Pause and resume the partitions for which that has changed."""
        self.assignment.has_shifted = False
        self._held, self._rested = self.requests.held, self.requests.rested
        to_pause: list[OwnedPartition] = []
        to_resume: list[OwnedPartition] = []
        for part in self.assignment.parts.values():
            is_to_pause = (
                self._is_resting
                or part.is_full
                or part.epoch in self._held
                or part.place[0] in self._rested
            )
            if is_to_pause is not part.is_paused:
                part.is_paused = is_to_pause
                (to_pause if is_to_pause else to_resume).append(part)
                if part.is_full:
                    self._bridge.observe("partition_full", **_facts(part))
        if to_pause:
            consumer.pause(_places(to_pause))
        if to_resume:
            consumer.resume(_places(to_resume))

    def _take(self, consumer: Consumer, *messages: Message | None) -> None:
        """Hand over what was read, and see to the events among it."""
        deliveries, events = self.assignment.take(m for m in messages if m is not None)
        if deliveries:
            self._has_read = True
            # Before the hand-over, so that no request that follows it is overwritten.
            self.requests.wanted = 0
            self._bridge.arrived(deliveries)
        for event in events:
            self._see_to(consumer, event)

    def _see_to(self, consumer: Consumer, event: Message) -> None:
        error = event.error()
        if error is None:
            return
        name, place = error.name(), (event.topic() or "", event.partition() or 0)
        if name == _END:
            self._has_read = True
            for part in self.assignment.of([place]):
                part.is_dirty = part.is_dirty or part.acks.position < (
                    event.offset() or 0
                )
                part.acks.reach(event.offset() or 0)
                part.at_end = True
        elif name == _GONE:
            self._rebalancer.restart(consumer, event)
        elif name in _BROKEN:
            raise StoreUnavailableError("kafka", "fetch", describe(error))
        elif name in _UNKNOWN_TOPIC:
            if self._doubt_at is None:
                self._doubt_at = self._clock.monotonic() + _DOUBT_S
        else:
            self._report_error(error)

    def _report_error(self, error: KafkaError) -> None:
        """Report what the cluster refuses; fail only if this member never read.

        A right that was taken from a working member may be given back: the client asks
        again, and the member stays in its group.
        """
        self.last(error)
        found = store_error(error, "fetch")
        if not isinstance(found, StoreRefusedError):
            return
        if self._has_read:
            self._bridge.observe("refused", detail=str(found))
        else:
            self._bridge.refused(found)

    def _resolve_doubt(self, consumer: Consumer) -> None:
        """Ask again, since a broker that has just started reports no topics.

        A topic that is really gone may be made again. Its partitions are read then; the
        other topics of this member are read meanwhile.
        """
        self._doubt_at = None
        try:
            missing = self._missing(consumer)
        except KafkaException:
            self._doubt_at = self._clock.monotonic() + _DOUBT_S
            return
        if missing is not None:
            self._doubt_at = self._clock.monotonic() + _GONE_AGAIN_S
            self._bridge.observe("topic_gone", detail=str(missing))

    def _commit_failed(self, detail: str) -> None:
        self._bridge.observe("commit_failed", detail=detail)

    def _leave(self, consumer: Consumer) -> None:
        """Commit what was settled, then leave the group."""
        self.requests.is_leaving = True
        parts = list(self.assignment.parts.values())
        self.assignment.withdraw(parts)
        self._rebalancer.settle()
        self._committer.send_and_wait(consumer, parts)
        self._give_up_all(consumer)
        consumer.close()
        self.assignment.drop(self.assignment.parts.values())

    def _give_up_all(self, consumer: Consumer) -> None:
        """Serve the rebalance callbacks that are left, so that ``close`` serves none.

        ``Consumer.close`` ends the group's state on another thread of the client. If
        it serves a callback at that moment, the callback asks that thread for the
        rebalance protocol, the question is dropped with the group's queue, and the
        callback waits for ever with the interpreter's lock: the whole process stands
        still. Seen with confluent-kafka 2.16.1 (``Consumer_rebalance_cb`` within
        ``rd_kafka_consumer_close``) in 1 of about 15 closes just after a topic of the
        group had been made again, and in 2 of 190 closes before the first assignment
        was served; in none of 320 closes after callbacks were served like this.
        """
        with contextlib.suppress(KafkaException):
            consumer.unsubscribe()
        until = self._clock.monotonic() + _GIVE_UP_S
        is_served = False
        while not is_served and self._clock.monotonic() < until:
            before = self._rebalancer.callbacks
            message = consumer.poll(_SERVE_S)
            is_served = (
                message is None
                and self._rebalancer.callbacks == before
                and not self.assignment.parts
                and not _is_assigned(consumer)
            )


def _is_assigned(consumer: Consumer) -> bool:
    try:
        return bool(consumer.assignment())
    except KafkaException:
        return False


def _no_ids(_: Iterable[str]) -> Mapping[str, str]:
    return {}


def _places(parts: Sequence[OwnedPartition]) -> list[TopicPartition]:
    return [TopicPartition(*part.place) for part in parts]


def _facts(part: OwnedPartition) -> dict[str, object]:
    topic, index = part.place
    return {"topic": topic, "partition": index, "open": part.acks.open_count}
