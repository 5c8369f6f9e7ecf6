"""The delay ladder: how a delayed record gets onto it, from tier to tier, and off it.

On the ladder a record is away from its lane, so it carries two headers of the log's
own: the lane it belongs to and when it is due. `route` adds them; they are dropped when
the record reaches its lane.

Nothing in a delay topic is trusted, and nothing in it may be lost or stand in the way
of the rest. If the cluster refuses a record's lane, the record is put back on the
ladder for a while. A record that can never be moved becomes a dead letter of its queue.
If its queue is unknown, or the dead letter is refused as well, the record circles on
the longest tier, where an operator finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import structs

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
from shifter.wire.headers import Headers, hastened_ms, read_headers

LANE_HEADER: Final = "shifter-lane"
DUE_HEADER: Final = "shifter-due"

# Epoch milliseconds up to the year 33658.
_MAX_DIGITS: Final = 15
# Kafka's limit on the name of a topic.
_MAX_TOPIC: Final = 249
# Names come from untrusted headers: they must not fill the memory.
_MOST_LANES: Final = 1_000
_PUT_BACK_TIER_S: Final = 64
_PATIENCE_MS: Final = 600_000
"""How long after its due time a record waits for its missing lane to exist again."""


class DelayTarget(NamedTuple):
    """Where a record on the ladder wants to go.

    Attributes:
        topic: The lane's name.
        due_ms: Not before this instant, epoch milliseconds.
    """

    topic: str
    due_ms: int


def route(namespace: str, record: Record, now_ms: int) -> tuple[str, Headers]:
    """The topic a record is written to now, and its headers there.

    A record that is due within the shortest tier goes straight to its lane, where a
    worker holds it for the rest.

    Args:
        namespace: First part of the delay topics' names.
        record: Its headers hold none of the ladder's own.
        now_ms: Epoch milliseconds.
    """
    if record.due_ms is None:
        return record.topic, record.headers
    tier_s = next_hop(record.due_ms - now_ms)
    if tier_s is None:
        return record.topic, record.headers
    return delay_topic(namespace, tier_s), [
        *record.headers,
        (LANE_HEADER, record.topic.encode()),
        (DUE_HEADER, b"%d" % record.due_ms),
    ]


def waiting(headers: Headers) -> tuple[DelayTarget | None, Headers]:
    """Where a record read from a delay topic wants to go, and its headers there.

    Returns:
        ``None`` in the first place if the ladder's headers are missing or malformed;
        in the second the headers without them.
    """
    found: dict[str, bytes] = {}
    rest: Headers = []
    for name, value in headers:
        if name in (LANE_HEADER, DUE_HEADER):
            found[name] = value if value is not None else b""
        else:
            rest.append((name, value))
    lane, due = found.get(LANE_HEADER, b""), found.get(DUE_HEADER, b"")
    is_due = due.isdigit() and len(due) <= _MAX_DIGITS
    if not (is_due and lane.isascii() and 0 < len(lane) <= _MAX_TOPIC):
        return None, rest
    return DelayTarget(lane.decode("ascii"), int(due)), rest


class Destination(Enum):
    """What a hop leads to."""

    ONWARD = "onward"
    LADDER = "ladder"
    DEAD_LETTER = "dead_letter"


@dataclass(slots=True, eq=False)
class Hop:
    """A delivery from a delay topic, and the record that is to follow it.

    Attributes:
        delivery: The record as it was read.
        lane: The lane it belongs to; ``None`` if the record does not name one.
        due_ms: Not on its lane before this instant; 0 if the record does not name one.
        ready_ms: Not appended before this instant, epoch milliseconds.
        record: The record to be appended: to its lane, or to a further tier.
        destination: What appending it leads to.
        tries: Appends without an answer so far.
    """

    delivery: Delivery
    lane: Lane | None
    due_ms: int
    ready_ms: int
    record: Record = field(init=False)
    destination: Destination = Destination.ONWARD
    tries: int = 0


class HopPlanner:
    """Reads deliveries of delay topics, and reroutes those that were refused.

    Args:
        namespace: Owner of the delay topics; records are moved to its lanes only.

    Attributes:
        wanted: Which records move now although their execution window is closed;
            none if ``None``.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._tiers = {delay_topic(namespace, tier_s): tier_s for tier_s in TIERS_S}
        self.wanted: Rushed | None = None

    @property
    def topics(self) -> list[str]:
        """The delay topics, shortest tier first."""
        return list(self._tiers)

    def plan(self, delivery: Delivery, now_ms: int) -> Hop:
        """The hop of a delivery; it starts when its time in this tier is over.

        The last piece of a delay, shorter than the shortest tier, is waited for in
        memory.
        """
        target, headers = waiting(delivery.headers)
        if target is None:
            target, headers = self._named_by_envelope(delivery), delivery.headers
        lane = None if target is None else _lane(self._namespace, target.topic)
        due_ms = 0 if target is None else target.due_ms
        hop = Hop(delivery, lane, due_ms, due_ms)
        # A clock in the future must not hold up those behind it.
        appended_ms = min(delivery.appended_ms, now_ms)
        tier_s, detail = self._tiers[delivery.topic], ""
        if target is None or lane is None:
            detail = "no lane to go to"
        elif due_ms > now_ms + MAX_DUE_AHEAD_MS + SKEW_MS:
            detail = f"due at {due_ms} ms, too far in the future"
        else:
            hop.record = Record(
                target.topic, delivery.value or b"", headers, delivery.key, due_ms
            )
            ready_ms = ready_at(appended_ms, tier_s, due_ms)
            if next_hop(due_ms - ready_ms) is not None:
                hop.ready_ms = ready_ms
            self.hasten(hop, now_ms)
        if detail:
            self._give_up(hop, Reason.UNDECODABLE_ENVELOPE, detail, now_ms)
            hop.ready_ms = appended_ms + tier_s * 1_000
        return hop

    def hasten(self, hop: Hop, now_ms: int) -> None:
        """Let a hop be on its lane by its own due time, if it is wanted now."""
        record, wanted = hop.record, self.wanted
        if (
            wanted is None
            or hop.destination is not Destination.ONWARD
            or hop.due_ms <= now_ms
        ):
            return
        due_ms = hastened_ms(
            record.topic, record.headers, hop.due_ms, wanted=wanted, now=now_ms
        )
        if due_ms < hop.due_ms:
            hop.due_ms, hop.ready_ms = due_ms, now_ms
            hop.record = structs.replace(record, due_ms=due_ms)

    def step(self, hop: Hop, now_ms: int) -> Record | None:
        """What to append now; ``None`` if the rest is waited for in memory.

        The way is chosen here and not by the writer, so that no moment that passes
        between the two brings a record to its lane too early.
        """
        record = hop.record
        if hop.destination is not Destination.ONWARD:
            return record
        topic, headers = route(self._namespace, record, now_ms)
        if topic == record.topic and now_ms < hop.due_ms:
            hop.ready_ms = hop.due_ms
            return None
        return Record(topic, record.value, headers, record.key)

    def reroute(self, hop: Hop, detail: str, now_ms: int) -> None:
        """Choose another way for a hop whose record was refused.

        A record for its lane is put back until some time after it was due, and is then
        a dead letter. Any other record is put back on the ladder until it is taken.

        Args:
            hop: The hop; its next record and time are set.
            detail: The refusal, for the dead letter.
            now_ms: Wall clock.
        """
        hop.ready_ms = now_ms
        if hop.destination is Destination.ONWARD and now_ms < hop.due_ms + _PATIENCE_MS:
            self._put_back(hop, _PUT_BACK_TIER_S)
        elif hop.destination is Destination.ONWARD:
            self._give_up(hop, Reason.REFUSED_BY_LOG, detail, now_ms)
        else:
            self._put_back(hop, TIERS_S[-1])

    def _named_by_envelope(self, delivery: Delivery) -> DelayTarget | None:
        """Where a record that another program put on the ladder wants to go."""
        envelope = _envelope(delivery)
        if (
            envelope is None
            or envelope.queue is None
            or envelope.priority is None
            or envelope.due_ms is None
        ):
            return None
        lane = Lane(self._namespace, envelope.queue, envelope.priority)
        return DelayTarget(lane.name, envelope.due_ms)

    def _put_back(self, hop: Hop, tier_s: int) -> None:
        """Let it wait once more, as it is."""
        delivery, hop.destination = hop.delivery, Destination.LADDER
        topic = delay_topic(self._namespace, tier_s)
        hop.record = Record(
            topic, delivery.value or b"", delivery.headers, delivery.key
        )

    def _give_up(self, hop: Hop, reason: Reason, detail: str, now_ms: int) -> None:
        delivery, lane = hop.delivery, hop.lane
        if lane is None:
            self._put_back(hop, TIERS_S[-1])
            return
        hop.destination = Destination.DEAD_LETTER
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
        hop.record = Record(
            dead_letter_topic(self._namespace, lane.queue),
            delivery.value or b"",
            dead_letter_headers(info, delivery.headers),
            delivery.key,
        )


@lru_cache(_MOST_LANES)
def _lane(namespace: str, topic: str) -> Lane | None:
    """The lane of a namespace with this name."""
    lane = parse_lane(topic)
    return lane if lane is not None and lane.namespace == namespace else None


def _envelope(delivery: Delivery) -> EnvelopeV1 | None:
    try:
        return read_headers(delivery.headers).envelope
    except WireError:
        return None
