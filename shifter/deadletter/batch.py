"""Dead letters that a run handles together, and their step in the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from shifter.deadletter.journal import DISCARD, OffsetSet, Ranges, RunBegun, RunStep
from shifter.deadletter.letter import read_job
from shifter.deadletter.plan import Decision, Park, Send, Skip
from shifter.model.claim import WaitingJobs, claim_identity
from shifter.model.lane import parse_lane
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.ports import Delivery, Record
from shifter.wire.envelope import EnvelopeV1
from shifter.wire.job_event import EventKind, JobEvent, shown_text


class Chosen(NamedTuple):
    """A dead letter of a batch and its decision; ``None`` if it is discarded."""

    delivery: Delivery
    decision: Decision | None

    @property
    def is_moved(self) -> bool:
        """Whether it is no longer open afterwards."""
        return not isinstance(self.decision, Skip)


class SampledReplay(NamedTuple):
    """A replay whose outcome is watched.

    Attributes:
        job_id: Id of the job.
        attempt: Its first attempt.
        job_type: Its type.
        lane: Lane that it was sent to.
    """

    job_id: str
    attempt: int
    job_type: str
    lane: str


class ReplayBatch:
    """Dead letters that were read and selected.

    Attributes:
        chosen: In the order of reading.
        upto: Offset where the next batch begins, by partition.
        looked_at: Number of letters that were read.
        size_bytes: Payload bytes of those that are moved.
    """

    def __init__(self) -> None:
        self.chosen: list[Chosen] = []
        self.upto: dict[int, int] = {}
        self.looked_at = self.size_bytes = 0

    def look_at(self, delivery: Delivery, chosen: Chosen | None) -> None:
        """Add a letter that was read; ``None`` if it was not selected."""
        self.looked_at += 1
        self.upto[delivery.partition] = delivery.offset + 1
        if chosen is not None:
            self.chosen.append(chosen)
            self.size_bytes += len(delivery.value or b"") if chosen.is_moved else 0

    def moved(self, without: Collection[int] = ()) -> list[Chosen]:
        """Letters that are no longer open, without those that the log refused."""
        return [x for x in self.chosen if x.is_moved and id(x) not in without]

    def step(self, run: str, at_ms: int, refused: Collection[int] = ()) -> RunStep:
        """The journal's step of the batch.

        Args:
            run: Name of the run.
            at_ms: Instant of the step.
            refused: ``id`` of the chosen letters that the log refused.
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
    """The record that is sent for a letter; ``None`` if none is."""
    return chosen.decision.record if isinstance(chosen.decision, Send | Park) else None


def sample_of(chosen: Chosen) -> SampledReplay | None:
    """How to watch a letter that was sent; ``None`` if it is no job on a lane."""
    if (sent := _sent_job(chosen)) is None:
        return None
    record, job_id, job = sent
    return SampledReplay(job_id, job.attempt, job.type, record.topic)


def waiting_of(chosen: Chosen, *, now_ms: int) -> WaitingJobs | None:
    """What the claim store records of a letter that was sent; ``None`` if nothing."""
    if (sent := _sent_job(chosen)) is None:
        return None
    record, job_id, job = sent
    key, ahead_ms = job.idempotency_key, (record.due_ms or now_ms) - now_ms
    identity = None if key is None else claim_identity(job.type, job_id, key)
    return WaitingJobs([job_id], WAITING_KEEP_MS + max(0, ahead_ms), identity)


def events_of(chosen: Iterable[Chosen], run: RunBegun, now_ms: int) -> list[JobEvent]:
    """What a run did to jobs, by letter; records that are no jobs are left out.

    Args:
        chosen: The letters that were sent or discarded.
        run: The run.
        now_ms: When that was, epoch milliseconds.
    """
    kind = EventKind.DISCARDED if run.action == DISCARD else EventKind.REPLAYED
    found: list[JobEvent] = []
    for each in chosen:
        sent = _sent_job(each)
        read = read_job(each.delivery.headers) if sent is None else None
        job = read.envelope if read is not None else sent[2] if sent else None
        if job is None or isinstance(each.decision, Park):
            continue
        event = JobEvent(
            at_ms=now_ms,
            event=kind.value,
            id=job.id,
            job=job.type,
            queue=job.queue or "",
            priority="" if job.priority is None else job.priority.value,
            replay_of=job.replay_of or "",
            run=shown_text(run.run),
            by=shown_text(run.by),
            reason=shown_text(run.reason),
        )
        found.append(event)
    return found


def _sent_job(chosen: Chosen) -> tuple[Record, str, EnvelopeV1] | None:
    """The record of a letter that was sent to a lane, its job's id and its envelope."""
    if not isinstance(chosen.decision, Send):
        return None
    record, job_id = chosen.decision
    read = read_job(record.headers) if parse_lane(record.topic) else None
    return None if read is None else (record, job_id, read.envelope)


def _name(chosen: Chosen) -> str:
    match chosen.decision:
        case Send():
            return "sent"
        case Park():
            return "parked"
        case Skip(reason):
            return f"skipped:{reason}"
        case _:
            return "discarded"


def _places(chosen: Iterable[Chosen]) -> Ranges:
    offsets: dict[int, OffsetSet] = {}
    for each in chosen:
        part, offset = each.delivery.partition, each.delivery.offset
        offsets.setdefault(part, OffsetSet()).add(offset, offset + 1)
    return {part: list(found) for part, found in offsets.items()}
