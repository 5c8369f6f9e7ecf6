"""Letters of a run that are handled together, and what the journal says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from shifter.deadletter.journal import RunStep
from shifter.deadletter.plan import Fate, Park, Send, Skip
from shifter.deadletter.ranges import ranges_of
from shifter.deadletter.replay_identity import read_job
from shifter.model.claim import WaitingJobs, claim_identity
from shifter.model.lane import parse_lane
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.ports import Delivery, Record


class Chosen(NamedTuple):
    """A letter of a batch, and what becomes of it; ``None``: it is discarded."""

    delivery: Delivery
    fate: Fate | None

    @property
    def is_moved(self) -> bool:
        """Whether it leaves the open letters."""
        return not isinstance(self.fate, Skip)


class SampledReplay(NamedTuple):
    """A replay that is looked after.

    Attributes:
        job_id: Its id.
        attempt: Its first attempt.
        job_type: Its name.
        lane: Where it went.
    """

    job_id: str
    attempt: int
    job_type: str
    lane: str


class ReplayBatch:
    """What was read and chosen.

    Attributes:
        chosen: In the order of reading.
        upto: Where the next batch goes on, by part.
        looked_at: How many letters were passed.
        size_bytes: Payloads of those that are moved.
    """

    def __init__(self) -> None:
        self.chosen: list[Chosen] = []
        self.upto: dict[int, int] = {}
        self.looked_at = self.size_bytes = 0

    def look_at(self, delivery: Delivery, chosen: Chosen | None) -> None:
        """Take in one more letter; ``None`` if it is not meant."""
        self.looked_at += 1
        self.upto[delivery.partition] = delivery.offset + 1
        if chosen is not None:
            self.chosen.append(chosen)
            self.size_bytes += len(delivery.value or b"") if chosen.is_moved else 0

    def moved(self, without: Collection[int] = ()) -> list[Chosen]:
        """Those that leave the open letters, but for the ones the log refused."""
        return [x for x in self.chosen if x.is_moved and id(x) not in without]

    def step(self, run: str, at_ms: int, refused: Collection[int] = ()) -> RunStep:
        """What is noted of it.

        Args:
            run: Its name.
            at_ms: When.
            refused: ``id`` of those that the log does not take.
        """
        counts = Counter(_name(x) for x in self.chosen if id(x) not in refused)
        if refused:
            counts["refused"] = len(refused)
        return RunStep(
            run=run,
            at_ms=at_ms,
            upto=self.upto,
            handled=_places(self.moved(refused)),
            counts=dict(counts),
        )


def record_of(chosen: Chosen) -> Record | None:
    """What is sent of a letter; ``None`` if it needs no record."""
    return chosen.fate.record if isinstance(chosen.fate, Send | Park) else None


def sample_of(chosen: Chosen) -> SampledReplay | None:
    """How to look after a letter that was sent; ``None`` where nobody can."""
    if not isinstance(chosen.fate, Send):
        return None
    record, job_id = chosen.fate
    read = read_job(record.headers) if parse_lane(record.topic) else None
    if read is None:
        return None
    envelope = read.envelope
    return SampledReplay(job_id, envelope.attempt, envelope.type, record.topic)


def waiting_of(chosen: Chosen, *, now_ms: int) -> WaitingJobs | None:
    """What is recorded of a letter that was sent and waits; ``None`` of all others."""
    if not isinstance(chosen.fate, Send):
        return None
    record, job_id = chosen.fate
    read = read_job(record.headers) if parse_lane(record.topic) else None
    if read is None:
        return None
    key, ahead_ms = read.envelope.idempotency_key, (record.due_ms or now_ms) - now_ms
    identity = None if key is None else claim_identity(read.envelope.type, job_id, key)
    return WaitingJobs([job_id], WAITING_KEEP_MS + max(0, ahead_ms), identity)


def _name(chosen: Chosen) -> str:
    match chosen.fate:
        case Send():
            return "sent"
        case Park():
            return "parked"
        case Skip(reason):
            return f"skipped:{reason}"
        case _:
            return "discarded"


def _places(chosen: Iterable[Chosen]) -> dict[int, list[tuple[int, int]]]:
    offsets: dict[int, list[int]] = {}
    for each in chosen:
        offsets.setdefault(each.delivery.partition, []).append(each.delivery.offset)
    return {part: ranges_of(sorted(found)) for part, found in offsets.items()}
