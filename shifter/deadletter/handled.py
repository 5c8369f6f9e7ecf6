"""The offsets that runs have handled, of the topic that has a name now.

A topic that is deleted and created again has other dead letters at the same offsets. So
a run records the topic's id, and its offsets count only for the topic of that id.

A run of an earlier version records no id. Its offsets count unless the log contradicts
them: a later run records another id, or letters that the run looked at do not exist, or
they were appended more than an hour after it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from shifter.deadletter.journal import Run, RunBegun, RunHistory
from shifter.deadletter.ranges import OffsetSet
from shifter.ports import Delivery, LogAdmin, Span

Handled: TypeAlias = Mapping[int, OffsetSet]
"""Offsets by partition."""

_CLOCKS_MS: Final = 3_600_000
"""Greatest difference between the clocks of a run and of the log. Source: Kafka's
default limit for a producer's clock, ``log.message.timestamp.after.max.ms``."""
_NOTHING: Final = Span(0, 0)


async def topic_id(admin: LogAdmin, topic: str) -> str:
    """The id of a topic, new each time it is created; empty if the log has none."""
    return (await admin.topic_ids([topic])).get(topic, "")


async def handled_now(admin: LogAdmin, history: RunHistory, topic: str) -> Handled:
    """Offsets that runs have handled, of the topic that has this name now."""
    found = await topic_id(admin, topic)
    named = history.handled(topic, found)
    unnamed = [
        run for run in history.unnamed(topic, found) if await _fits(admin, run.begun)
    ]
    if not unnamed:
        return named
    merged = {part: OffsetSet(ranges) for part, ranges in named.items()}
    for run in unnamed:
        for part, ranges in history.handled_by(run).items():
            for first, end in ranges:
                merged.setdefault(part, OffsetSet()).add(first, end)
    return merged


async def is_of_now(admin: LogAdmin, history: RunHistory, run: Run) -> bool:
    """Whether the topic that a run worked on still exists."""
    begun = run.begun
    found = await topic_id(admin, begun.source)
    if begun.topic_id:
        return begun.topic_id == found
    return run in history.unnamed(begun.source, found) and await _fits(admin, begun)


def is_open(handled: Handled, delivery: Delivery) -> bool:
    """Whether no run has handled a dead letter."""
    found = handled.get(delivery.partition)
    return found is None or delivery.offset not in found


async def _fits(admin: LogAdmin, begun: RunBegun) -> bool:
    """Whether the letters that a run looked at can have existed when it began."""
    until_ms = begun.at_ms + _CLOCKS_MS
    then = await admin.spans(begun.source, until_ms=until_ms)
    return all(
        end <= then.get(part, _NOTHING).end for part, (_, end) in begun.spans.items()
    )
