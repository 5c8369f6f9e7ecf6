"""A delivery on its way through a worker: read once, then handed from room to room."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.model.claim import claim_identity
from shifter.model.job import JobSpec
from shifter.model.lane import Lane
from shifter.model.quality import Quality
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.calendar import next_opening_ms
from shifter.policy.dependency import Dependency
from shifter.ports import Delivery, LaneFeed
from shifter.wire.envelope import EnvelopeV1, by_our_clock, check_bounds
from shifter.wire.headers import ReadHeaders, content_coding, read_headers
from shifter.wire.payload import PayloadCodec

NOT_IN_LINE: Final = -math.inf
"""Of an item that never stood in line; 0 is an instant like any other."""


class Runnable(Protocol):
    """What a worker needs of a registered job."""

    @property
    def spec(self) -> JobSpec:
        """What was declared."""

    @property
    def function(self) -> Callable[..., Any]:
        """The handler."""

    @property
    def codec(self) -> PayloadCodec:
        """Reads the payload."""

    @property
    def context_parameter(self) -> str | None:
        """Name of the handler's ``Context`` parameter."""

    @property
    def cheaper(self) -> Callable[..., Any] | None:
        """Its fallback, if it has one."""

    @property
    def dependency(self) -> Dependency | None:
        """What the handler calls, if it was declared."""


class Refusal(NamedTuple):
    """Why a record cannot be run at all."""

    reason: Reason
    detail: str


class Item:
    """One readable delivery.

    Attributes:
        delivery: As fetched.
        feed: Where to settle it.
        lane: The lane it was read from.
        read: Its headers.
        envelope: The one among them.
        job: The job to run; ``None`` together with a ``refusal``.
        refusal: Why it goes to the dead letters without being run.
        identity: Its claim identity.
        turn: Hand-over number, as claimed.
        attempt: Attempt number; grows when a keyed job is retried in place.
        key_id: What it must keep its order with; ``None`` without an ordering key.
        blocked_since: Monotonic seconds of its first retry in place, else ``None``.
        busy_since: Monotonic seconds since when another holds its claim, if one does.
        first_failed_ms: Epoch milliseconds of its first failure, if any.
        ready_at: Monotonic seconds since when it may start, or `NOT_IN_LINE`.
        fence: As granted; 0 while unclaimed.
        losses: How many workers vanished while they ran this very turn, >= 0.
        quality: To be served at, as of its start.
        is_degraded: Whether its fallback is run instead of its handler.
        has_succeeded: Whether it took effect here, but its claim was gone before that
            could be recorded: it is recorded under the next one, and not run again.
    """

    __slots__ = (
        "attempt",
        "blocked_since",
        "busy_since",
        "delivery",
        "envelope",
        "feed",
        "fence",
        "first_failed_ms",
        "has_succeeded",
        "identity",
        "is_degraded",
        "job",
        "key_id",
        "lane",
        "losses",
        "quality",
        "read",
        "ready_at",
        "refusal",
        "turn",
    )

    def __init__(  # made in one place, for every record
        self,
        delivery: Delivery,
        feed: LaneFeed,
        lane: Lane,
        read: ReadHeaders,
        job: Runnable | None,
        refusal: Refusal | None,
    ) -> None:
        envelope = read.envelope
        self.delivery, self.feed, self.lane = delivery, feed, lane
        self.read, self.job, self.refusal = read, job, refusal
        self.envelope: EnvelopeV1 = envelope
        # A replay runs although the job before it ended, under the same key.
        self.identity = (
            envelope.id
            if envelope.idempotency_key is None or envelope.replay_of is not None
            else claim_identity(envelope.type, envelope.id, envelope.idempotency_key)
        )
        self.turn, self.attempt = envelope.turn, envelope.attempt
        self.key_id = None if envelope.key is None else (delivery.topic, envelope.key)
        self.first_failed_ms = envelope.first_failed_ms
        self.blocked_since: float | None = None
        self.busy_since: float | None = None
        self.ready_at = NOT_IN_LINE
        self.fence = self.losses = 0
        self.has_succeeded = self.is_degraded = False
        self.quality = Quality.FULL

    def due_ms(self, now: EpochMs) -> EpochMs:
        """When it may start: by its due time, and by its job's windows; from now on."""
        due_ms = self.envelope.due_ms
        due = now if due_ms is None or due_ms < now else EpochMs(due_ms)
        windows = () if self.job is None else self.job.spec.windows
        return next_opening_ms(windows, due) if windows else due


class Unreadable(NamedTuple):
    """A delivery whose envelope cannot be read: nothing is known but its bytes."""

    delivery: Delivery
    feed: LaneFeed
    lane: Lane
    refusal: Refusal


class Reader:
    """Turns deliveries into items.

    Args:
        lanes: Lanes served, by topic.
        jobs: Registered jobs, by name.
    """

    def __init__(self, lanes: Mapping[str, Lane], jobs: Mapping[str, Runnable]) -> None:
        self._lanes, self._jobs = lanes, jobs

    def read(self, delivery: Delivery, feed: LaneFeed, now: int) -> Item | Unreadable:
        """Read one delivery; nothing of it is trusted, nothing is raised."""
        lane = self._lanes[delivery.topic]
        try:
            read = read_headers(delivery.headers)
            check_bounds(read.envelope, now)
            envelope = by_our_clock(read.envelope, now)
        except DecodeError as error:
            refusal = Refusal(Reason(error.reason), error.detail)
            return Unreadable(delivery, feed, lane, refusal)
        except UnsupportedVersionError as error:
            refusal = Refusal(Reason.UNSUPPORTED_VERSION, str(error))
            return Unreadable(delivery, feed, lane, refusal)
        if envelope is not read.envelope:
            read = read._replace(envelope=envelope)
        job = self._jobs.get(envelope.type)
        return Item(delivery, feed, lane, read, job, _refusal(read, lane, job))


def _refusal(read: ReadHeaders, lane: Lane, job: Runnable | None) -> Refusal | None:
    envelope = read.envelope
    if envelope.queue is not None and envelope.queue != lane.queue:
        detail = f"queue {envelope.queue!r} on lane {lane.name!r}"
        return Refusal(Reason.WRONG_LANE, detail)
    if envelope.priority is not None and envelope.priority is not lane.priority:
        detail = f"priority {envelope.priority.value!r} on lane {lane.name!r}"
        return Refusal(Reason.WRONG_LANE, detail)
    if job is None:
        detail = f"no job is registered as {envelope.type!r}"
        return Refusal(Reason.UNKNOWN_JOB, detail)
    if read.extra and (coding := content_coding(read.extra)) is not None:
        detail = f"content-encoding {coding!r}; payloads are plain JSON or msgpack"
        return Refusal(Reason.UNDECODABLE_PAYLOAD, detail)
    return None
