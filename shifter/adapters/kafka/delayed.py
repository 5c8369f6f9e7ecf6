"""Counts of the records on the delay ladder, by lane and by tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from shifter.adapters.kafka.ladder import DelayTarget
from shifter.model.lane import delay_topic
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import DelayTier


class DelayedRecords:
    """Records on the delay ladder.

    Args:
        namespace: Owner of the delay topics.

    Attributes:
        records: Their number, by the lane that they go to.
        overdue: Those that are due, by the same.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.records: Counter[str] = Counter()
        self.overdue: Counter[str] = Counter()
        self._of_tier: Counter[tuple[str, str]] = Counter()
        self._next_ms: dict[tuple[str, str], int] = {}

    def add(self, tier: str, target: DelayTarget, now: int) -> None:
        """Count one record.

        Args:
            tier: The delay topic that it is in.
            target: Where it goes, and when.
            now: Epoch milliseconds.
        """
        self.records[target.topic] += 1
        self.overdue[target.topic] += target.due_ms <= now
        at = (tier, target.topic)
        self._of_tier[at] += 1
        self._next_ms[at] = min(target.due_ms, self._next_ms.get(at, target.due_ms))

    def tiers(self, topics: Sequence[str]) -> list[DelayTier]:
        """The records of some lanes by tier, the shortest first; none that is empty."""
        wanted, found = set(topics), []
        for tier_s in TIERS_S:
            name = delay_topic(self._namespace, tier_s)
            own = [at for at in self._of_tier if at[0] == name and at[1] in wanted]
            if own:
                count = sum(self._of_tier[at] for at in own)
                next_ms = min(self._next_ms[at] for at in own)
                found.append(DelayTier(tier_s, count, next_ms))
        return found
