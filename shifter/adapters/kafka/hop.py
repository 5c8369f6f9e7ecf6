"""One record's way from a delay topic to where it belongs, and what to do if it cannot.

Nothing in a delay topic is trusted, and nothing in it may be lost or stand in the way
of the rest. So a record whose lane the cluster refuses is put back on the ladder for a
while; one that can never be moved becomes a dead letter of its queue; and where there
is no queue to be told, or its dead letters are refused as well, the record goes round
on the longest tier, where an operator finds it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from shifter.adapters.kafka.ladder import DelayTarget, hop, waiting
from shifter.errors import WireError
from shifter.model.lane import Lane, dead_letter_topic, delay_topic, parse_lane
from shifter.model.reason import Reason
from shifter.policy.delivery.delay import TIERS_S, next_hop, ready_at
from shifter.ports import Delivery, Record, Rushed
from shifter.wire.dead_letter import (
    Origin,
    damage_facts,
    dead_letter_headers,
    dead_letter_info,
)
from shifter.wire.envelope import MAX_DUE_AHEAD_MS, SKEW_MS, EnvelopeV1
from shifter.wire.headers import read_headers
from shifter.wire.hours import hastened_ms

_MOST_LANES: Final = 1_000
_PUT_BACK_TIER_S: Final = 64
_PATIENCE_MS: Final = 600_000
"""How long after its due time a record waits for its lane to be there again."""


class Destination(Enum):
    """Where a trip is to end."""

    ONWARD = "onward"
    LADDER = "ladder"
    DEAD_LETTER = "dead_letter"


class Hop:
    """A delivery from a delay topic, and the record that is to follow it.

    Attributes:
        delivery: As read.
        record: What is to be appended; to a lane by way of further tiers.
        goal: Where that leads.
        ready_ms: Not appended before this instant, epoch milliseconds.
        due_ms: Not on its lane before this instant; 0 if that cannot be told.
        lane: Where it belongs, if that can be told.
        tries: Appends without an answer so far.
    """

    __slots__ = ("delivery", "due_ms", "goal", "lane", "ready_ms", "record", "tries")

    def __init__(self, delivery: Delivery, lane: Lane | None, due_ms: int) -> None:
        self.delivery, self.lane, self.due_ms = delivery, lane, due_ms
        self.goal, self.ready_ms, self.tries = Destination.ONWARD, due_ms, 0
        self.record: Record


class HopPlanner:
    """Reads deliveries of delay topics, and reroutes those that were refused.

    Args:
        namespace: Whose ladder it is; records are moved to its lanes only.

    Attributes:
        wanted: What is moved now although it waits for its hours; nothing if ``None``.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._tiers = {delay_topic(namespace, tier_s): tier_s for tier_s in TIERS_S}
        self._lanes: dict[str, Lane | None] = {}
        self.wanted: Rushed | None = None

    @property
    def topics(self) -> list[str]:
        """The delay topics, shortest tier first."""
        return list(self._tiers)

    def plan(self, delivery: Delivery, now_ms: int) -> Hop:
        """The trip of a delivery; it starts when its time in this tier is over.

        The last piece of a delay, shorter than the shortest tier, is waited for in
        memory.
        """
        goal, headers = waiting(delivery.headers)
        if goal is None:
            goal, headers = _told_by_envelope(self._namespace, delivery)
        lane = None if goal is None else self._lane(goal.topic)
        due_ms = 0 if goal is None else goal.due_ms
        trip = Hop(delivery, lane, due_ms)
        # A clock in the future must not hold up those behind it.
        appended_ms, tier_s = (
            min(delivery.appended_ms, now_ms),
            self._tiers[delivery.topic],
        )
        if goal is None or lane is None:
            self._give_up(trip, Reason.UNDECODABLE_ENVELOPE, "no lane to go to", now_ms)
            trip.ready_ms = appended_ms + tier_s * 1_000
        elif due_ms > now_ms + MAX_DUE_AHEAD_MS + SKEW_MS:
            detail = f"due at {due_ms} ms, too far in the future"
            self._give_up(trip, Reason.UNDECODABLE_ENVELOPE, detail, now_ms)
            trip.ready_ms = appended_ms + tier_s * 1_000
        else:
            trip.record = Record(
                goal.topic, delivery.value or b"", headers, delivery.key, due_ms
            )
            ready_ms = ready_at(appended_ms, tier_s, due_ms)
            if next_hop(due_ms - ready_ms) is not None:
                trip.ready_ms = ready_ms
            self.hasten(trip, now_ms)
        return trip

    def hasten(self, trip: Hop, now_ms: int) -> None:
        """Let a trip be on its lane by its own due time, if it is wanted now."""
        record, wanted = trip.record, self.wanted
        if (
            wanted is None
            or trip.goal is not Destination.ONWARD
            or trip.due_ms <= now_ms
        ):
            return
        due_ms = hastened_ms(
            record.topic, record.headers, trip.due_ms, wanted=wanted, now=now_ms
        )
        if due_ms < trip.due_ms:
            trip.due_ms, trip.ready_ms = due_ms, now_ms
            trip.record = Record(
                record.topic, record.value, record.headers, record.key, due_ms
            )

    def step(self, trip: Hop, now_ms: int) -> Record | None:
        """What to append now; ``None`` if the rest is waited for in memory.

        The way is chosen here and not by the writer, so that no moment that passes
        between the two brings a record to its lane too early.
        """
        record = trip.record
        if trip.goal is not Destination.ONWARD:
            return record
        topic, headers = hop(self._namespace, record, now_ms)
        if topic == record.topic and now_ms < trip.due_ms:
            trip.ready_ms = trip.due_ms
            return None
        return Record(topic, record.value, headers, record.key)

    def reroute(self, trip: Hop, detail: str, now_ms: int) -> None:
        """Choose another way for a trip whose record was refused."""
        trip.ready_ms = now_ms
        if trip.goal is Destination.ONWARD and now_ms < trip.due_ms + _PATIENCE_MS:
            self._put_back(trip, _PUT_BACK_TIER_S)
        elif trip.goal is Destination.ONWARD:
            self._give_up(trip, Reason.REFUSED_BY_LOG, detail, now_ms)
        else:
            self._put_back(trip, TIERS_S[-1])

    def _lane(self, topic: str) -> Lane | None:
        """The lane of our namespace with this name."""
        if topic in self._lanes:
            return self._lanes[topic]
        if len(self._lanes) >= _MOST_LANES:
            self._lanes.clear()
        lane = parse_lane(topic)
        if lane is not None and lane.namespace != self._namespace:
            lane = None
        self._lanes[topic] = lane
        return lane

    def _put_back(self, trip: Hop, tier_s: int) -> None:
        """Let it wait once more, as it is."""
        delivery, trip.goal = trip.delivery, Destination.LADDER
        topic = delay_topic(self._namespace, tier_s)
        trip.record = Record(
            topic, delivery.value or b"", delivery.headers, delivery.key
        )

    def _give_up(self, trip: Hop, reason: Reason, detail: str, now_ms: int) -> None:
        delivery, lane = trip.delivery, trip.lane
        if lane is None:
            self._put_back(trip, TIERS_S[-1])
            return
        trip.goal = Destination.DEAD_LETTER
        envelope = _envelope(delivery)
        origin = Origin(
            delivery.topic, delivery.partition, delivery.offset, delivery.appended_ms
        )
        info = dead_letter_info(
            envelope,
            origin,
            damage_facts(reason, detail),
            queue=lane.queue,
            reason=reason,
            attempts=0 if envelope is None else envelope.attempt - 1,
            first_failed_ms=None if envelope is None else envelope.first_failed_ms,
            last_failed_ms=now_ms,
        )
        trip.record = Record(
            dead_letter_topic(self._namespace, lane.queue),
            delivery.value or b"",
            dead_letter_headers(info, delivery.headers),
            delivery.key,
        )


def _envelope(delivery: Delivery) -> EnvelopeV1 | None:
    try:
        return read_headers(delivery.headers).envelope
    except WireError:
        return None


def _told_by_envelope(
    namespace: str, delivery: Delivery
) -> tuple[DelayTarget | None, list[tuple[str, bytes | None]]]:
    """The same for a record that another program put on the ladder."""
    envelope = _envelope(delivery)
    if (
        envelope is None
        or envelope.queue is None
        or envelope.priority is None
        or envelope.due_ms is None
    ):
        return None, delivery.headers
    lane = Lane(namespace, envelope.queue, envelope.priority)
    return DelayTarget(lane.name, envelope.due_ms), delivery.headers
