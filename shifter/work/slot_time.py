"""How long the lanes of a priority hold slots, so that slots are shared by time.

The lane choice charges a lane when a job starts, and how long the job will run is not
known then. So a start is charged the mean of its lane, and the difference is charged as
it becomes known: while a job runs longer than that, and when it ends. Two queues that
always have jobs waiting then hold slots in the ratio of their weights, whether their
jobs take 10 ms or 10 min. Counted in starts, the queue with the longer jobs would hold
nearly all slots.

Lanes that are alone in their priority share with no other lane and are not measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shifter.model.lane import Lane, Priority
from shifter.work.item import Item

_NS: Final = 1_000_000_000
_UNKNOWN_S: Final = 0.001
"""What a start is charged while no job of the priority has ever run."""
_REMEMBERED: Final = 64
"""Ends after which the mean begins to forget: the newest 64 to 128 count."""


@dataclass(slots=True)
class _Usage:
    """The slots that one lane holds.

    Attributes:
        running: Slots held now.
        since_s: Sum of the instants at which they were taken.
        ended_s: Slot time of jobs that ended since the last account.
        charged_s: What was charged since, and for those that ran at that account.
        cost_s: What the next start is charged.
        count: Ends that the mean is made of.
        total_s: Their slot time.
    """

    running: int = 0
    since_s: float = 0.0
    ended_s: float = 0.0
    charged_s: float = 0.0
    cost_s: float = 0.0
    count: int = 0
    total_s: float = 0.0

    def mean_s(self, now: float) -> float:
        """How long a job holds its slot; 0 while that is unknown.

        Jobs that run longer than the mean raise it before they end.
        """
        mean_s = self.total_s / self.count if self.count else 0.0
        if self.running:
            mean_s = max(mean_s, now - self.since_s / self.running)
        return mean_s

    def account_s(self, now: float) -> float:
        """What is to be charged now beyond what was charged; negative to pay back."""
        elapsed_s = self.running * now - self.since_s
        held_s = max(elapsed_s, self.running * self.cost_s)
        owed_s = self.ended_s + held_s - self.charged_s
        self.ended_s, self.charged_s = 0.0, held_s
        return owed_s


class SlotTime:
    """Owned by one event loop. Instants are monotonic seconds.

    Args:
        lanes: Lanes served, by topic.
    """

    def __init__(self, lanes: Mapping[str, Lane]) -> None:
        of = Counter(lane.priority for lane in lanes.values())
        self._usage = {
            topic: _Usage() for topic, lane in lanes.items() if of[lane.priority] > 1
        }
        self._priority = {topic: lane.priority for topic, lane in lanes.items()}
        self._active: set[str] = set()  # lanes that held a slot since the last account

    def costs(self, topics: Collection[str], now: float) -> dict[str, int]:
        """What a start of each lane is charged, in nanoseconds.

        Args:
            topics: Lanes of which jobs wait.
            now: The instant.

        Returns:
            By topic, >= 1; those that are alone in their priority are not in it.
        """
        usages = {t: self._usage[t] for t in topics if t in self._usage}
        means = {topic: usage.mean_s(now) for topic, usage in usages.items()}
        known = [mean_s for mean_s in means.values() if mean_s]
        usual_s = sum(known) / len(known) if known else _UNKNOWN_S
        for topic, usage in usages.items():
            usage.cost_s = means[topic] or usual_s
        return {t: max(1, int(usage.cost_s * _NS)) for t, usage in usages.items()}

    def owed(self, now: float) -> dict[Priority, dict[str, int]]:
        """What lanes held beyond what they were charged, in nanoseconds.

        Returns:
            By priority and topic; negative where a lane was charged too much.
        """
        found: dict[Priority, dict[str, int]] = {}
        for topic in list(self._active):
            usage = self._usage[topic]
            if owed_ns := int(usage.account_s(now) * _NS):
                found.setdefault(self._priority[topic], {})[topic] = owed_ns
            if not usage.running:
                self._active.discard(topic)
        return found

    def took(self, items: Iterable[Item], now: float) -> None:
        """Items hold a slot from now on, and are charged for it."""
        for item in items:
            topic = item.delivery.topic
            usage = self._usage.get(topic)
            if usage is not None:
                self._active.add(topic)
                item.slot_since = now
                usage.running += 1
                usage.since_s += now
                usage.charged_s += usage.cost_s

    def left(self, item: Item, now: float) -> None:
        """An item holds its slot no more, whether it ran or not."""
        if item.slot_since is None:
            return
        usage, took_s = self._usage[item.delivery.topic], now - item.slot_since
        usage.running -= 1
        usage.since_s -= item.slot_since
        item.slot_since = None
        usage.ended_s += took_s
        usage.total_s += took_s
        usage.count += 1
        if usage.count >= 2 * _REMEMBERED:
            usage.count, usage.total_s = _REMEMBERED, usage.total_s / 2
        if not usage.running:
            usage.since_s = 0.0  # no rounding adds up
