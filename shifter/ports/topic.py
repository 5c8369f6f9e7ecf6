"""What an administrator sees of topics: how they are set, and what waits on lanes."""

from __future__ import annotations

from typing import Final, NamedTuple

HEAD: Final = 10
"""Records of each partition of a lane whose deadlines `LogAdmin.depths` reads."""


class LaneDepth(NamedTuple):
    """What waits on a lane.

    Attributes:
        topic: The lane's name.
        waiting: Records appended and not settled, >= 0.
        delayed: Records of this lane that wait for their due time; ``None`` where
            counting them would take too long.
        oldest_ms: When the oldest waiting record was appended; ``None`` if none.
        overdue: Of the delayed records, those that are due and that the log has not
            moved to the lane yet; ``None`` where ``delayed`` is.
        deadline_ms: The earliest deadline of the first `HEAD` records that wait in each
            partition, or of more where the log reads them without cost; ``None`` where
            none of these has a deadline.
        partitions: Partitions of its topic, each of which one worker process drains at
            a time; ``None`` where processes share a lane without them.
    """

    topic: str
    waiting: int
    delayed: int | None
    oldest_ms: int | None
    overdue: int | None = 0
    deadline_ms: int | None = None
    partitions: int | None = None


class DelayTier(NamedTuple):
    """Delayed records that wait in one place of the log.

    Attributes:
        tier_s: Seconds that a record stays there before it is moved on; ``None`` for
            the only place of a log that has no tiers.
        records: How many there are, > 0.
        next_due_ms: When the first one is due, epoch milliseconds.
    """

    tier_s: int | None
    records: int
    next_due_ms: int


class TopicSpec(NamedTuple):
    """A topic as it should be.

    Attributes:
        name: Topic name.
        partitions: >= 1.
        retention_ms: How long an unread record is kept.
        max_record_bytes: Largest record it takes.
    """

    name: str
    partitions: int
    retention_ms: int
    max_record_bytes: int


class TopicChange(NamedTuple):
    """One difference between a topic as it is and as it should be.

    Attributes:
        topic: Its name.
        action: ``create``, ``add_partitions``, ``set``, ``warn`` (needs an operator),
            or ``note`` (a setting of the brokers, beside the topics).
        detail: What changes, from what to what.
    """

    topic: str
    action: str
    detail: str


def widening(
    have: TopicSpec | None, want: TopicSpec, *, created: str
) -> list[TopicChange]:
    """The changes that widen a topic; too many partitions are a warning.

    Args:
        have: The topic as it is; ``None`` where there is none.
        want: The topic as it should be.
        created: The detail of a topic that is made.
    """
    if have is None:
        return [TopicChange(want.name, "create", created)]
    changes = []
    if have.partitions != want.partitions:
        action = "add_partitions" if have.partitions < want.partitions else "warn"
        detail = f"partitions: {have.partitions} to {want.partitions}"
        changes.append(TopicChange(want.name, action, detail))
    for name in ("retention_ms", "max_record_bytes"):
        before, after = getattr(have, name), getattr(want, name)
        if before < after:
            detail = f"{name}: {before} to {after}"
            changes.append(TopicChange(want.name, "set", detail))
    return changes
