"""Reads the dead letters of one topic, without those that runs have handled.

A topic that is deleted and created again has other dead letters at the same offsets. So
a run records the topic's id, and its offsets count only for the topic of that id.

A run of an earlier version records no id. Its offsets count unless the log contradicts
them: a later run records another id, or letters that the run looked at do not exist, or
they were appended more than an hour after it began.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from shifter.deadletter.filter import compile_filter
from shifter.deadletter.journal import Journal, OffsetSet, Run, RunBegun, RunHistory
from shifter.deadletter.letter import Letter
from shifter.deadletter.plan import (
    Forecast,
    ReplayPolicy,
    ReplayRoutes,
    Skip,
    SkipReason,
    decide,
)
from shifter.deadletter.triage import Triage
from shifter.errors import ConfigError, UnknownSourceError
from shifter.model.advice import nearest
from shifter.model.lane import dead_letter_topic, parse_lane
from shifter.ports import Clock, Delivery, LogAdmin, Span

Handled: TypeAlias = Mapping[int, OffsetSet]
"""Offsets by partition."""

_CLOCKS_MS: Final = 3_600_000
"""Greatest difference between the clocks of a run and of the log. Source: Kafka's
default limit for a producer's clock, ``log.message.timestamp.after.max.ms``."""
_NOTHING: Final = Span(0, 0)


class ScanProgress(NamedTuple):
    """How far a scan or a run is.

    Attributes:
        looked_at: Number of letters read.
        total: Number of letters to read.
        counts: Counts of a run, as `shifter.deadletter.journal.RunStep.counts`.
        held_s: Seconds that its last replays have waited on their lane, while the run
            waits for them to start.
    """

    looked_at: int
    total: int
    counts: dict[str, int]
    held_s: float = 0.0


OnProgress = Callable[[ScanProgress], None]


def no_progress(progress: ScanProgress) -> None:
    """Ignore the progress."""


class Selection(NamedTuple):
    """Selects dead letters of a topic.

    Attributes:
        filter: Condition in the language of `shifter.deadletter.filter`.
        since_ms: Appended at or after this instant.
        until_ms: Appended before the first record at or after this instant.
        parts: Offsets by partition, first included, end excluded; ``None`` for all.
        again: Whether to include letters that a run has handled.
    """

    filter: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    parts: dict[int, tuple[int, int]] | None = None
    again: bool = False


ALL: Final = Selection()


class LetterReader:
    """The dead letters of one topic, for reading.

    Args:
        admin: Admin of the log.
        journal: Journal of the namespace.
        clock: Clock that ages are measured by.
        source: The topic.
    """

    def __init__(
        self, admin: LogAdmin, journal: Journal, clock: Clock, source: str
    ) -> None:
        self._admin, self._journal, self._clock = admin, journal, clock
        self.namespace, self.source = journal.namespace, source

    async def spans(self, selection: Selection = ALL) -> dict[int, Span]:
        """The offsets that a selection covers, by partition, from the log's index."""
        spans = await self._admin.spans(
            self.source, since_ms=selection.since_ms, until_ms=selection.until_ms
        )
        if selection.parts is None:
            return spans
        return {
            part: _within(span, selection.parts[part])
            for part, span in spans.items()
            if part in selection.parts
        }

    async def letters(
        self, selection: Selection = ALL, on_progress: OnProgress = no_progress
    ) -> AsyncGenerator[Letter]:
        """The selected letters, in order within each partition.

        Raises:
            FilterError: The filter is wrong.
        """
        test, now_ms = compile_filter(selection.filter), self._clock.epoch_ms()
        spans = await self.spans(selection)
        total = sum(span.end - span.first for span in spans.values())
        handled: Handled = {}
        if not selection.again:
            history = await self._journal.load()
            handled = await handled_now(self._admin, history, self.source)
        seen = 0
        async for batch in self._admin.scan(self.source, spans):
            for delivery in batch:
                if is_open(handled, delivery):
                    letter = Letter(delivery, now_ms)
                    if test(letter):
                        yield letter
            seen += len(batch)
            on_progress(ScanProgress(seen, total, {}))

    async def triage(
        self, selection: Selection = ALL, on_progress: OnProgress = no_progress
    ) -> Triage:
        """The selected letters, grouped by failure."""
        found = Triage()
        async for letter in self.letters(selection, on_progress):
            found.add(letter.delivery)
        return found

    async def forecast(
        self,
        selection: Selection = ALL,
        policy: ReplayPolicy = ReplayPolicy(),  # noqa: B008  # frozen
        *,
        limit: int | None = None,
        on_progress: OnProgress = no_progress,
    ) -> tuple[Forecast, Triage]:
        """Count what a replay would do, and the failures that it would replay.

        Args:
            selection: Which letters.
            policy: How letters would go back.
            limit: Most letters that would be moved; ``None`` for no limit.
            on_progress: Called after each batch that was read.

        Raises:
            FilterError: The filter is wrong.
            ConfigError: A target does not exist.
        """
        topics = await self._admin.topics()
        self.check_targets(policy, topics)
        routes = ReplayRoutes.among(
            topics, run="", namespace=self.namespace, source=self.source
        )
        forecast, kinds = Forecast(), Triage()
        async for letter in self.letters(selection, on_progress):
            decision = decide(letter, policy, routes, now_ms=letter.now_ms)
            if (
                limit is not None
                and forecast.moved >= limit
                and not isinstance(decision, Skip)
            ):
                decision = Skip(SkipReason.LIMIT)
            forecast.note(decision)
            if not isinstance(decision, Skip):
                kinds.add(letter.delivery)
        return forecast, kinds

    async def runs(self) -> list[Run]:
        """The runs on this topic, oldest first."""
        history = await self._journal.load()
        return [run for run in history.runs.values() if run.begun.source == self.source]

    def check_targets(self, policy: ReplayPolicy, topics: Sequence[str]) -> None:
        """Return if a run may send to the targets that it is given.

        Raises:
            ConfigError: A target does not exist, or leads back to this topic.
        """
        for target in policy.targets.values():
            if target not in topics:
                raise ConfigError("--target", target, nearest(target, topics, "topics"))
            if target in (self.source, self._journal.topic):
                want = "a replay cannot go to the topic of its own dead letters"
                raise ConfigError("--target", target, want)


async def find_topic(admin: LogAdmin, namespace: str, name: str) -> str:
    """The topic that a queue of the namespace, or a topic's own name, stands for.

    Args:
        admin: Admin of the log.
        namespace: Namespace of the queues.
        name: A queue, or the full name of a topic; a queue comes first.

    Raises:
        UnknownSourceError: Neither exists; the error names the nearest topic.
        StoreError: The log does not answer.
    """
    topics = await admin.topics()
    if "." not in name:
        topic = dead_letter_topic(namespace, name)
        # A log that creates topics on demand has none before the first dead letter.
        lanes = [lane for lane in map(parse_lane, topics) if lane is not None]
        if topic in topics or (namespace, name) in {lane[:2] for lane in lanes}:
            return topic
    if name in topics:
        return name
    known = [topic for topic in topics if "dlt" in topic or "dead" in topic]
    want = nearest(name, known, "topics that look like one")
    raise UnknownSourceError("dead letters", name, want, namespace=namespace)


async def topic_id(admin: LogAdmin, topic: str) -> str:
    """The id of a topic, new each time it is created; empty if the log has none."""
    return (await admin.topic_ids([topic])).get(topic, "")


async def handled_now(admin: LogAdmin, history: RunHistory, topic: str) -> Handled:
    """Offsets that runs have handled, of the topic that has this name now.

    Args:
        admin: Admin of the log.
        history: Everything that was read of the journal.
        topic: Name of the dead-letter topic.
    """
    return await handled_of(admin, history, topic, await topic_id(admin, topic))


async def handled_of(
    admin: LogAdmin, history: RunHistory, topic: str, found: str
) -> Handled:
    """The same, of a topic whose id is known: ``found``."""
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
    """Whether the topic that a run worked on still exists.

    Args:
        admin: Admin of the log.
        history: Everything that was read of the journal.
        run: The run.
    """
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


def _within(span: Span, bounds: tuple[int, int]) -> Span:
    first = min(max(span.first, bounds[0]), span.end)
    return Span(first, max(first, min(span.end, bounds[1])))
