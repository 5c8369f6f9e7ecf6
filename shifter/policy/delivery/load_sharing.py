"""How many waiting jobs a worker without a free slot gives to workers that have some.

A log with partitions gives each worker the jobs of its partitions, however slow it is:
one of four workers that is ten times slower than the others gets a quarter of the jobs
and is through with a fortieth. So a worker moves jobs which would wait: it appends them
to partitions of workers with free slots. This is sender-initiated load sharing with a
threshold, which needs to know little of the others. Source: Eager, Lazowska and
Zahorjan, "Adaptive Load Sharing in Homogeneous Distributed Systems", IEEE Transactions
on Software Engineering 12 (5), 1986.

A job may be moved more than once, so what is known of the others must bound the moves:
each worker that has no free slot uses its share of what the others can start beside
their own jobs, and no more until they report again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class SharingPolicy:
    """When jobs are moved.

    Attributes:
        keep_s: A job that starts here within so many seconds is not moved: an append
            and a fetch of another worker take about as long on a busy machine.
        known_s: For how long reports of the others are used, seconds. They report once
            a second.
    """

    keep_s: float = 0.05
    known_s: float = 1.0

    def keep(self, started_per_s: float) -> int:
        """How many of the waiting jobs stay, those that start first.

        >>> SharingPolicy().keep(1_000.0), SharingPolicy().keep(10.0)
        (50, 0)
        """
        return int(started_per_s * self.keep_s)


class WorkerLoad(NamedTuple):
    """What a worker reports of its load.

    Attributes:
        slots: Attempts at once.
        running: Attempts that run now.
        ended_per_s: Jobs that end a second.
        busy: Part of its slots or of its processor that is used, 0 to 1; 0 where it is
            not known.
        partitions: Its partitions, by topic.
        takes_jobs: Whether it does; one that ends does not.
    """

    slots: int
    running: int
    ended_per_s: float
    busy: float
    partitions: Mapping[str, Sequence[int]]
    takes_jobs: bool = True

    @property
    def is_full(self) -> bool:
        """Whether it has no free slot."""
        return self.running >= self.slots


def spare_per_s(load: WorkerLoad) -> float:
    """Jobs that a worker can start in a second beside those that it starts anyway.

    A free slot takes at least one, and as many as an attempt's time fits into a second
    (Little's law). A processor in use leaves ``rate / busy - rate`` (utilization law),
    whatever number of slots is free. Pure.

    >>> free = WorkerLoad(10, 2, 20.0, 0.2, {})
    >>> spare_per_s(free), spare_per_s(free._replace(running=10))
    (80.0, 0.0)
    >>> spare_per_s(free._replace(busy=0.8)), spare_per_s(WorkerLoad(10, 0, 0.0, 0, {}))
    (5.0, 10.0)
    """
    free = load.slots - load.running
    if free <= 0 or not load.takes_jobs:
        return 0.0
    per_slot = load.ended_per_s / load.running if load.running else 0.0
    by_slots = free * max(1.0, per_slot)
    if load.busy <= 0.0 or load.ended_per_s <= 0.0:
        return by_slots
    return min(by_slots, load.ended_per_s * (1.0 / min(1.0, load.busy) - 1.0))


class Target(NamedTuple):
    """Where jobs may go.

    Attributes:
        partitions: The worker's, by topic.
        spare: How many jobs it may get from this worker.
    """

    partitions: Mapping[str, Sequence[int]]
    spare: int


def targets(
    others: Sequence[WorkerLoad],
    mine: Mapping[str, Sequence[int]],
    *,
    for_s: float,
) -> list[Target]:
    """The workers that jobs may be moved to, and how many to each.

    What they can start is shared evenly between this worker, which has no free slot,
    and the others that have none.

    Args:
        others: The loads of all other workers.
        mine: The partitions of this worker, by topic, as it reported them itself. No
            job goes there: one that another worker reports too just moves there.
        for_s: For how many seconds, > 0.

    Returns:
        Those that may get at least one.
    """
    senders = 1 + sum(load.is_full for load in others)
    found = []
    for load in others:
        partitions = {
            topic: [one for one in theirs if one not in mine.get(topic, ())]
            for topic, theirs in load.partitions.items()
        }
        spare = int(spare_per_s(load) * for_s / senders)
        if spare > 0 and any(partitions.values()):
            found.append(Target(partitions, spare))
    return found


class Room:
    """What is left of the targets' room. Owned by one event loop.

    Args:
        targets: Of the last reports.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self._left = [target.spare for target in targets]

    def __bool__(self) -> bool:
        return any(self._left)

    def of(self, topic: str) -> int:
        """How many jobs of a topic may still be moved."""
        return sum(
            left
            for target, left in zip(self._targets, self._left, strict=True)
            if target.partitions.get(topic)
        )

    def take(self, topic: str, u: float) -> int:
        """The partition that the next job of a topic goes to.

        Args:
            topic: One that `of` has room for.
            u: A draw from [0, 1). A target is drawn with a chance in proportion to what
                is left of its room, and each of its partitions with the same chance.
        """
        draw = u * self.of(topic)
        for number, target in enumerate(self._targets):
            partitions = target.partitions.get(topic)
            left = self._left[number]
            if not partitions or not left:
                continue
            if draw < left:
                self._left[number] -= 1
                return partitions[int(draw / left * len(partitions))]
            draw -= left
        raise ValueError(f"no room for jobs of {topic!r}")
