"""Deletes old records of topics that keep what has happened, such as that of events.

No lane is one of them: a job is deleted only when it is settled.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from shifter.adapters.sqlite.lane_table import SHIFT, first_since, place_of
from shifter.ports import Clock, Span

NOTHING_KEPT: Final[Mapping[str, int]] = MappingProxyType({})
"""No topic keeps its records by age."""

_EVERY_S: Final = 10.0
_MOST: Final = 1_000
"""Records of one topic that one transaction deletes, so that none lasts long."""


class Pruner:
    """Deletes by age, every few seconds, in the transactions that append.

    Args:
        kept_ms: Topics whose records are deleted, and the age in milliseconds.
        clock: Paces the deleting.

    Attributes:
        kept_ms: The same one.
    """

    def __init__(self, kept_ms: Mapping[str, int], clock: Clock) -> None:
        self.kept_ms, self._clock = kept_ms, clock
        self._next_at = float("-inf")

    def prune(
        self, connection: sqlite3.Connection, topics: Collection[str], now: int
    ) -> None:
        """Delete what is old, if one of these topics keeps its records by age.

        Args:
            connection: In a transaction.
            topics: What the transaction appends to.
            now: Wall clock, in milliseconds.
        """
        if self.kept_ms.keys().isdisjoint(topics):
            return
        if self._clock.monotonic() < self._next_at:
            return
        self._next_at = self._clock.monotonic() + _EVERY_S
        for topic, kept_ms in self.kept_ms.items():
            _prune(connection, topic, now - kept_ms)


def _prune(connection: sqlite3.Connection, topic: str, before_ms: int) -> None:
    lanes = connection.execute(
        "SELECT lane.id, next FROM lane JOIN topic ON topic.id = lane.topic "
        "WHERE name = ? AND live > 0",
        (topic,),
    ).fetchall()
    for lane, next_ in lanes:
        base = lane << SHIFT
        (oldest,) = connection.execute(
            "SELECT min(id) FROM job WHERE id >= ? AND id < ?", (base, base + next_)
        ).fetchone()
        if oldest is None:
            continue
        first = place_of(oldest)
        span = Span(first, min(next_, first + _MOST))
        end = base + first_since(connection, lane, span, before_ms)
        gone = connection.execute(
            "DELETE FROM job WHERE id >= ? AND id < ?", (oldest, end)
        ).rowcount
        connection.execute("UPDATE lane SET live = live - ? WHERE id = ?", (gone, lane))
