"""Decides for one dead letter: send it back, park it, or leave it where it is.

Pure: the same letter, rules and instant give the same answer, so that a run that was
killed decides the second time as it did the first.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from string import hexdigits
from typing import Any, Final, NamedTuple, TypeAlias, assert_never

import msgspec

from shifter.deadletter.dialect import foreign_dialect, original_headers, read_origin
from shifter.deadletter.letter import (
    REPLAY_ID_HEADER,
    REPLAYS_HEADER,
    Letter,
    read_job,
    replays_of,
)
from shifter.model.lane import Lane, parking_topic, parse_lane
from shifter.ports import Delivery, Record
from shifter.wire.envelope import MAX_REPLAYS
from shifter.wire.headers import ReadHeaders, successor

ANY_ORIGIN: Final = "*"
"""Key of `ReplayPolicy.targets` for all origins without a target of their own."""

_MAX_ATTEMPT: Final = 1_000
_VARIANT: Final = {
    digit: "89ab"[place % 4] for place, digit in enumerate(hexdigits[:16])
}


class SkipReason(StrEnum):
    """Why a selected dead letter stays where it is."""

    NO_ORIGIN = "no_origin"
    UNDECLARED_ORIGIN = "undeclared_origin"
    NO_PAYLOAD = "no_payload"
    NOT_A_JOB = "not_a_job"
    EXPIRED = "expired"
    LIMIT = "over_the_limit"


class ReplayPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How a run replays. The journal keeps it, so the field names are a contract.

    Attributes:
        targets: Topic for each origin, `ANY_ORIGIN` for all others; a letter of an
            origin without a target goes back to it, if it is a lane of the namespace.
        reset_attempts: Whether a job gets all its attempts again; else it gets one.
        max_replays: A letter that was replayed this often is parked, >= 1.
        deadline_ms: Milliseconds from the replay to a new deadline; ``None`` keeps the
            old one.
    """

    targets: dict[str, str] = {}
    reset_attempts: bool = False
    max_replays: int = 3
    deadline_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRoutes:
    """The topics that dead letters of one source may go to.

    Attributes:
        run: The run's name.
        namespace: Namespace of the fleet.
        source: The dead-letter topic.
        lanes: Lanes of the namespace that exist.
        trace: ``traceparent`` of the run, if it is traced.
    """

    run: str
    namespace: str
    source: str
    lanes: frozenset[str]
    trace: str | None = None

    @classmethod
    def among(
        cls,
        topics: Iterable[str],
        *,
        run: str,
        namespace: str,
        source: str,
        trace: str | None = None,
    ) -> ReplayRoutes:
        """The routes of a run in a log that has these topics.

        Args:
            topics: All topics of the log.
            run: The run's name.
            namespace: Namespace of the fleet.
            source: The dead-letter topic.
            trace: ``traceparent`` of the run, if it is traced.
        """
        lanes = (lane for lane in map(parse_lane, topics) if lane is not None)
        own = frozenset(lane.name for lane in lanes if lane.namespace == namespace)
        return cls(run=run, namespace=namespace, source=source, lanes=own, trace=trace)


class Send(NamedTuple):
    """The dead letter goes back as this record."""

    record: Record
    replay_id: str


class Park(NamedTuple):
    """The dead letter was replayed too often and goes to the parking topic as it is."""

    record: Record
    replay_id: str


class Skip(NamedTuple):
    """The dead letter stays where it is."""

    reason: SkipReason


Decision: TypeAlias = Send | Park | Skip


def replay_id(run: str, record: str) -> str:
    """The id of the job that a run makes of a record.

    It is derived from the run and the record, so that a record that one run replays
    twice is one job to the claim store.

    Args:
        run: The run's name.
        record: The job's id, or the record's place.

    >>> import uuid
    >>> replay_id("a", "b") == replay_id("a", "b") != replay_id("b", "a")
    True
    >>> uuid.UUID(replay_id("a", "b")).version, uuid.UUID(replay_id("a", "b")).variant
    (5, 'specified in RFC 4122')
    """
    text = f"{run}\n{record}".encode()
    digits = hashlib.blake2b(text, digest_size=16, person=b"shifter-replay").hexdigest()
    # As RFC 9562's name-based UUIDs, with a hash that is not broken. The standard
    # library's UUID takes three times as long.
    return (
        f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-"
        f"{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
    )


def decide(
    letter: Letter, policy: ReplayPolicy, routes: ReplayRoutes, *, now_ms: int
) -> Decision:
    """Decide what happens to a selected letter.

    Args:
        letter: The letter. Its origin is untrusted: only a declared topic is used.
        policy: Policy of the run.
        routes: Topics that the run may send to.
        now_ms: Instant that deadlines are compared with, epoch milliseconds.
    """
    delivery = letter.delivery
    read = read_job(delivery.headers)
    name = f"{delivery.topic}/{delivery.partition}/{delivery.offset}"
    new_id = replay_id(routes.run, name if read is None else read.envelope.id)
    count = replays_of(delivery.headers) if read is None else read.envelope.replays
    # Before the target: a letter that fails for ever is parked wherever it would go.
    if count >= policy.max_replays:
        headers = [*delivery.headers, (REPLAY_ID_HEADER, new_id.encode())]
        value = delivery.value or b""
        return Park(
            Record(parking_topic(routes.source), value, headers, delivery.key), new_id
        )
    origin, attempts = read_origin(delivery.headers, delivery.appended_ms)
    target = _target(origin, policy.targets, routes)
    if delivery.value is None:
        target = SkipReason.NO_PAYLOAD
    if isinstance(target, SkipReason):
        return Skip(target)
    lane = _lane(target)
    if lane is None or lane.namespace != routes.namespace:
        return _back_to_others(delivery, target, new_id, count + 1)
    if read is None:
        return Skip(SkipReason.NOT_A_JOB)
    changes = _changes(read, new_id, attempts, policy, now_ms)
    if changes is None:
        return Skip(SkipReason.EXPIRED)
    changes["replay_trace"] = routes.trace
    return Send(_to_lane(delivery, read, lane, changes), new_id)


# A run decides many letters, and few topics occur in them.
_lane = functools.lru_cache(maxsize=256)(parse_lane)


def _target(
    origin: str | None, targets: Mapping[str, str], routes: ReplayRoutes
) -> str | SkipReason:
    if origin is not None and origin in targets:
        return targets[origin]
    if ANY_ORIGIN in targets:
        return targets[ANY_ORIGIN]
    if origin is None:
        return SkipReason.NO_ORIGIN
    return origin if origin in routes.lanes else SkipReason.UNDECLARED_ORIGIN


def _changes(
    read: ReadHeaders,
    new_id: str,
    attempts: int | None,
    policy: ReplayPolicy,
    now_ms: int,
) -> dict[str, Any] | None:
    """Fields of the envelope that differ; ``None`` if its deadline has passed."""
    deadline_ms = read.envelope.deadline_ms
    if policy.deadline_ms is not None:
        deadline_ms = now_ms + policy.deadline_ms
    elif deadline_ms is not None and deadline_ms <= now_ms:
        return None
    before = read.envelope
    attempt = 1 if policy.reset_attempts else attempts or before.attempt
    key = before.idempotency_key
    return {
        "id": new_id,
        "replay_of": before.id,
        "replays": min(before.replays + 1, MAX_REPLAYS),
        # The handler must send the same idempotency key as the job before.
        "idempotency_key": before.id if key is None else key,
        "attempt": min(attempt, _MAX_ATTEMPT),
        "turn": 1,
        "due_ms": None,
        "misfit_since_ms": None,
        "put_off_since_ms": None,
        "was_run": False,
        "deadline_ms": deadline_ms,
    }


def _to_lane(
    delivery: Delivery, read: ReadHeaders, lane: Lane, changes: dict[str, Any]
) -> Record:
    # A worker refuses a record whose envelope names another lane than it lies in.
    if read.envelope.queue is not None:
        changes["queue"] = lane.queue
    if read.envelope.priority is not None:
        changes["priority"] = lane.priority
    headers = successor(read, **changes)
    return Record(lane.name, delivery.value or b"", headers, delivery.key)


def _back_to_others(delivery: Delivery, target: str, new_id: str, count: int) -> Send:
    headers = original_headers(foreign_dialect(delivery.headers), delivery.headers)
    headers.append((REPLAYS_HEADER, b"%d" % min(count, MAX_REPLAYS)))
    headers.append((REPLAY_ID_HEADER, new_id.encode()))
    return Send(Record(target, delivery.value or b"", headers, delivery.key), new_id)


class Forecast(msgspec.Struct, kw_only=True):
    """What a run would do, as counts: by target, and by the reason to stay.

    Attributes:
        selected: Letters that the filter selects and no run has handled.
        sent: Letters that are sent, by topic.
        parked: Letters that are parked, since they were replayed too often.
        skipped: Letters that stay, by `SkipReason`.
    """

    selected: int = 0
    sent: dict[str, int] = {}
    parked: int = 0
    skipped: dict[str, int] = {}

    @property
    def moved(self) -> int:
        """Number of dead letters that are sent or parked."""
        return self.parked + sum(self.sent.values())

    def note(self, decision: Decision) -> None:
        """Count one decision."""
        self.selected += 1
        match decision:
            case Send(record, _):
                self.sent[record.topic] = self.sent.get(record.topic, 0) + 1
            case Park():
                self.parked += 1
            case Skip(reason):
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
            case _:
                assert_never(decision)
