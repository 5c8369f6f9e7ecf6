"""Counts the dead letters that no run has handled, of many topics at once.

A count comes from the log's offsets and the journal. Not every offset holds a record:
transactions take some, and compaction leaves gaps. If few offsets of a topic are open,
they are read and counted; otherwise each counts as a letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from shifter.deadletter.journal import RunHistory
from shifter.deadletter.reader import handled_of, is_open
from shifter.ports import LogAdmin, Span

_READ: Final = 1_000
"""Offsets that are read to count letters exactly; of more, each counts as a letter."""


class _State(NamedTuple):
    """What a count follows from: the topic, its offsets, and the journal."""

    topic_id: str
    spans: Mapping[int, Span]
    journal_id: str
    read_upto: Mapping[int, int]


class OpenCounts:
    """Counts again and again; a topic that has not changed is not counted anew.

    Attributes:
        history: Everything that was read of the journal; the caller loads it.
    """

    def __init__(self, history: RunHistory | None = None) -> None:
        self.history = RunHistory() if history is None else history
        self._counted: dict[str, tuple[_State, int]] = {}

    async def count(self, admin: LogAdmin, topics: Sequence[str]) -> dict[str, int]:
        """Number of open dead letters, by topic.

        Args:
            admin: Admin of the log.
            topics: Names of dead-letter topics.

        Raises:
            StoreError: The log does not answer.
        """
        if not topics:
            return {}
        ids, kept = await admin.topic_ids(topics), await admin.kept(topics)
        journal = self.history.journal_id, dict(self.history.read_upto)
        counted: dict[str, tuple[_State, int]] = {}
        for topic in topics:
            state = _State(ids.get(topic, ""), kept.get(topic, {}), *journal)
            known = self._counted.get(topic)
            if known is None or known[0] != state:
                known = state, await self._count(admin, topic, state)
            counted[topic] = known
        self._counted = counted
        return {topic: count for topic, (_, count) in counted.items()}

    async def _count(self, admin: LogAdmin, topic: str, state: _State) -> int:
        spans = state.spans
        if all(span.first >= span.end for span in spans.values()):
            return 0
        handled = await handled_of(admin, self.history, topic, state.topic_id)
        rest = {
            part: Span(min(span.end, handled[part].first_gap(span.first)), span.end)
            if part in handled
            else span
            for part, span in spans.items()
        }
        if sum(span.end - span.first for span in rest.values()) <= _READ:
            return sum(
                [
                    sum(is_open(handled, each) for each in batch)
                    async for batch in admin.scan(topic, rest)
                ]
            )
        done = sum(
            handled[part].count(span.first, span.end)
            for part, span in spans.items()
            if part in handled
        )
        return max(0, await admin.count(topic) - done)
