"""A delivery on its way through a worker: read once, handed from stage to stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.jobs.context import identify
from shifter.jobs.registered import RegisteredJob
from shifter.model.answer import Quality
from shifter.model.claim import claim_identity
from shifter.model.lane import Lane, Priority
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.ports import Delivery, LaneFeed
from shifter.wire.envelope import EnvelopeV1, by_our_clock, check_bounds
from shifter.wire.headers import ReadHeaders, content_coding, read_headers

NOT_IN_LINE: Final = -math.inf
"""Marks an item that was never queued; 0 would be a valid instant."""


class ItemRefusal(NamedTuple):
    """Why a record cannot be run at all.

    Attributes:
        reason: Reason code of the dead letter.
        detail: One line for the dead letter and the log.
        is_misfit: Whether a worker with another version of the app may run it.
    """

    reason: Reason
    detail: str
    is_misfit: bool = False


class HeldWaits:
    """For how long an item was held back in this process, by cause.

    Attributes:
        cause: What it waits for, or waited for last.
        waits: Milliseconds of the waits that are over, by cause.
    """

    __slots__ = ("_since_ms", "cause", "waits")

    def __init__(self, cause: str, now_ms: int) -> None:
        self.cause = cause
        self._since_ms: int | None = now_ms
        self.waits: dict[str, int] = {}

    def begin(self, cause: str, now_ms: int) -> bool:
        """Note that it waits for this now; whether it never did before.

        An item that waits for a cause asks again and again, and is held again.
        """
        if cause == self.cause and self._since_ms is not None:
            return False
        self.end(now_ms)
        self.cause, self._since_ms = cause, now_ms
        return cause not in self.waits

    def end(self, now_ms: int) -> None:
        """Note that it waits no more."""
        if self._since_ms is not None:
            waited_ms = max(0, now_ms - self._since_ms)
            self.waits[self.cause] = self.waits.get(self.cause, 0) + waited_ms
            self._since_ms = None


@dataclass(slots=True, eq=False)
class Item:
    """One readable delivery.

    Attributes:
        delivery: As fetched.
        feed: Where to settle it.
        lane: The lane it was read from.
        read: Its headers.
        envelope: The job's envelope, read from the headers.
        job: The job to run; ``None`` together with a ``refusal``.
        refusal: Why it becomes a dead letter without being run.
        identity: Its claim identity.
        payload_bytes: Length of its payload, >= 0.
        turn: Hand-over number, as claimed.
        attempt: Attempt number; grows when a keyed job is retried in place.
        key_id: Lane and ordering key; items with the same one keep their order.
            ``None`` without an ordering key.
        blocked_since: Monotonic seconds of its first retry in place, else ``None``.
        busy_since: Monotonic seconds since when another holds its claim, if one does.
        first_failed_ms: Epoch milliseconds of its first failure, if any.
        misfit_since_ms: Epoch milliseconds since when it waits for a worker that has
            its type and fields, if it does.
        was_run: Whether a run of it ended without a success.
        put_off: How often it was put off without being charged, >= 0.
        put_off_since_ms: Epoch milliseconds since when, if it was.
        read_ms: When it was read, epoch milliseconds.
        ready_at: Monotonic seconds since when it may start, or `NOT_IN_LINE`.
        place: Its place in a `DeadlineQueue`, once it had one.
        is_opportunistic: Whether it waits for a quiet time.
        slot_since: Monotonic seconds since when it holds a slot, if that is measured.
        started_ms: When its last attempt began, epoch milliseconds, if one did.
        ran_s: How long its last attempt took, seconds, if one has ended.
        fence: As granted; 0 while unclaimed.
        losses: How many workers vanished while they ran this very turn, >= 0.
        quality: To be served at, as of its start.
        is_degraded: Whether its fallback is run instead of its handler.
        degraded_by: Why, if it is.
        trace_id: Of the span of its last attempt, if it was traced.
        held: What it was held back for in this process, once it was.
        has_succeeded: Whether it took effect here, but its claim was gone before that
            could be recorded: it is recorded under the next one, and not run again.
    """

    delivery: Delivery
    feed: LaneFeed
    lane: Lane
    read: ReadHeaders
    job: RegisteredJob | None
    refusal: ItemRefusal | None
    envelope: EnvelopeV1 = field(init=False)
    identity: str = field(init=False)
    payload_bytes: int = field(init=False)
    turn: int = field(init=False)
    attempt: int = field(init=False)
    key_id: tuple[str, str] | None = field(init=False)
    blocked_since: float | None = field(init=False, default=None)
    busy_since: float | None = field(init=False, default=None)
    first_failed_ms: int | None = field(init=False)
    misfit_since_ms: int | None = field(init=False)
    was_run: bool = field(init=False)
    put_off: int = field(init=False)
    put_off_since_ms: int | None = field(init=False)
    read_ms: int = field(init=False, default=0)
    ready_at: float = field(init=False, default=NOT_IN_LINE)
    place: tuple[int, int] | None = field(init=False, default=None)
    is_opportunistic: bool = field(init=False, default=False)
    slot_since: float | None = field(init=False, default=None)
    started_ms: int | None = field(init=False, default=None)
    ran_s: float | None = field(init=False, default=None)
    fence: int = field(init=False, default=0)
    losses: int = field(init=False, default=0)
    quality: Quality = field(init=False, default=Quality.FULL)
    is_degraded: bool = field(init=False, default=False)
    degraded_by: Reason = field(init=False, default=Reason.QUALITY_REDUCED)
    trace_id: int | None = field(init=False, default=None)
    held: HeldWaits | None = field(init=False, default=None)
    has_succeeded: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        envelope, delivery = self.read.envelope, self.delivery
        self.envelope = envelope
        self.payload_bytes = 0 if delivery.value is None else len(delivery.value)
        # A replay runs although the job before it ended, under the same key.
        self.identity = (
            envelope.id
            if envelope.idempotency_key is None or envelope.replay_of is not None
            else claim_identity(envelope.type, envelope.id, envelope.idempotency_key)
        )
        self.key_id = None if envelope.key is None else (delivery.topic, envelope.key)
        self.first_failed_ms = envelope.first_failed_ms
        self.misfit_since_ms = envelope.misfit_since_ms
        self.put_off_since_ms = envelope.put_off_since_ms
        self.was_run = envelope.was_run
        # Not max(): a call for every record costs more than a comparison.
        turn, attempt = envelope.turn, envelope.attempt
        self.turn, self.attempt = turn, attempt
        self.put_off = turn - attempt if turn > attempt else 0

    @property
    def is_extra(self) -> bool:
        """Whether it is a retry, a repeat or a replay, to be paid for by a budget."""
        was_run = self.was_run or self.attempt > 1
        return was_run or self.envelope.replay_of is not None

    @property
    def accepted_ms(self) -> int:
        """When the job was accepted, epoch milliseconds."""
        created_ms = self.envelope.created_ms
        return self.delivery.appended_ms if created_ms is None else created_ms

    def log_fields(self) -> dict[str, object]:
        """What each log line of the handler carries."""
        return identify(self.envelope.id, self.envelope.type, self.attempt)

    def due_ms(self, now: EpochMs) -> EpochMs:
        """When it may start by its own due time; from now on."""
        due_ms = self.envelope.due_ms
        return now if due_ms is None or due_ms < now else EpochMs(due_ms)


class Unreadable(NamedTuple):
    """A delivery whose envelope cannot be read; only its bytes are known."""

    delivery: Delivery
    feed: LaneFeed
    lane: Lane
    refusal: ItemRefusal


E = TypeVar("E", Item, Item | Unreadable)


def by_feed(entries: Sequence[E]) -> Iterable[Sequence[E]]:
    """Group entries by feed, since each call of a feed is a round trip."""
    if not entries:
        return ()
    first = entries[0].feed
    if all(entry.feed is first for entry in entries):
        return (entries,)
    groups: dict[int, list[E]] = {}
    for entry in entries:
        groups.setdefault(id(entry.feed), []).append(entry)
    return groups.values()


class ItemReader:
    """Turns deliveries into items.

    Args:
        lanes: Lanes served, by topic.
        jobs: Registered jobs, by name.
        quiet: Topics of lanes that are drained in a quiet time only.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        jobs: Mapping[str, RegisteredJob],
        quiet: AbstractSet[str] = frozenset(),
    ) -> None:
        self._lanes, self._jobs, self._quiet = lanes, jobs, quiet

    def read(self, delivery: Delivery, feed: LaneFeed, now: int) -> Item | Unreadable:
        """Read one delivery. Its content is not trusted, and nothing is raised.

        Args:
            delivery: The record.
            feed: The feed that it came from.
            now: Wall clock.
        """
        lane = self._lanes[delivery.topic]
        try:
            read = read_headers(delivery.headers)
            check_bounds(read.envelope, now)
            envelope = by_our_clock(read.envelope, now)
        except DecodeError as error:
            refusal = ItemRefusal(Reason(error.reason), error.detail)
            return Unreadable(delivery, feed, lane, refusal)
        except UnsupportedVersionError as error:
            refusal = ItemRefusal(Reason.UNSUPPORTED_VERSION, str(error))
            return Unreadable(delivery, feed, lane, refusal)
        if envelope is not read.envelope:
            read = read._replace(envelope=envelope)
        job = self._jobs.get(envelope.type)
        item = Item(delivery, feed, lane, read, job, _refusal(read, lane, job))
        item.read_ms = now
        if lane.priority is Priority.LOW:
            item.is_opportunistic = delivery.topic in self._quiet or _is_quiet(job)
        return item


def _is_quiet(job: RegisteredJob | None) -> bool:
    """Whether a job at LOW waits for a quiet time; repairs of degraded answers do."""
    return job is not None and (job.spec.opportunistic or job.spec.repair)


def _refusal(
    read: ReadHeaders, lane: Lane, job: RegisteredJob | None
) -> ItemRefusal | None:
    envelope = read.envelope
    if envelope.queue is not None and envelope.queue != lane.queue:
        detail = f"queue {envelope.queue!r} on lane {lane.name!r}"
        return ItemRefusal(Reason.WRONG_LANE, detail)
    if envelope.priority is not None and envelope.priority is not lane.priority:
        detail = f"priority {envelope.priority.value!r} on lane {lane.name!r}"
        return ItemRefusal(Reason.WRONG_LANE, detail)
    if job is None:
        detail = f"no job is registered as {envelope.type!r}"
        return ItemRefusal(Reason.UNKNOWN_JOB, detail, is_misfit=True)
    if read.extra and (coding := content_coding(read.extra)) is not None:
        detail = f"content-encoding {coding!r}; payloads are plain JSON or msgpack"
        return ItemRefusal(Reason.UNDECODABLE_PAYLOAD, detail)
    return None
