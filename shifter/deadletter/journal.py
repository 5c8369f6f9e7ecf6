"""The journal of runs: what each handled, who began it, and why.

The journal is a topic of the log itself, ``<namespace>.replays``, and only grows. A run
that was killed resumes from its last step; a letter that a run handled is not shown or
replayed again; and the journal is the audit record, so no entry is ever changed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import msgspec

from shifter.deadletter.plan import ReplayPolicy
from shifter.errors import StoreUnavailableError
from shifter.model.lane import journal_topic, parking_topic
from shifter.ports import Clock, LogAdmin, Record, Span, TopicSpec

REPLAY: Final = "replay"
DISCARD: Final = "discard"
EDIT: Final = "edit"
IMPORT: Final = "import"
RESUMABLE: Final = frozenset({REPLAY, DISCARD})
"""Actions that can be resumed, since the journal has how far they came."""

_HIDDEN_S: Final = 40.0
"""Longest wait for the end of another run's transaction."""

_LOOK_S: Final = 0.2
_YEAR_MS: Final = 365 * 86_400_000
_JOURNAL_BYTES: Final = 1_000_000
_PARKING_BYTES: Final = 1_200_000

Range: TypeAlias = tuple[int, int]
"""The first offset, and one past the last."""

Ranges: TypeAlias = dict[int, list[Range]]
"""Offsets by partition."""


class OffsetSet:
    """Offsets of one partition, as ranges that do not touch.

    >>> found = OffsetSet([(5, 7), (1, 3)])
    >>> found.add(3, 5)
    >>> list(found), 6 in found, 7 in found, len(found)
    ([(1, 7)], True, False, 6)
    """

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in ranges:
            self.add(first, end)

    def add(self, first: int, end: int) -> None:
        """Add ``first`` up to ``end``, excluded; an empty range adds nothing."""
        if first >= end:
            return
        # Ranges that touch the new one are merged with it.
        low = bisect.bisect_left(self._ends, first)
        high = bisect.bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def first_gap(self, offset: int) -> int:
        """The first offset from ``offset`` on that is not in the set.

        >>> found = OffsetSet([(1, 4), (7, 9)])
        >>> found.first_gap(0), found.first_gap(2), found.first_gap(5)
        (0, 4, 5)
        """
        place = bisect.bisect_right(self._firsts, offset) - 1
        return max(offset, self._ends[place]) if place >= 0 else offset

    def count(self, first: int, end: int) -> int:
        """Number of offsets from ``first``, included, to ``end``, excluded.

        >>> OffsetSet([(1, 4), (7, 9)]).count(3, 8)
        2
        """
        low = bisect.bisect_right(self._ends, first)
        high = bisect.bisect_left(self._firsts, end)
        pairs = zip(self._firsts[low:high], self._ends[low:high], strict=True)
        return sum(min(b, end) - max(a, first) for a, b in pairs)

    def __contains__(self, offset: int) -> bool:
        place = bisect.bisect_right(self._firsts, offset) - 1
        return place >= 0 and offset < self._ends[place]

    def __iter__(self) -> Iterator[Range]:
        return iter(zip(self._firsts, self._ends, strict=True))

    def __len__(self) -> int:
        return sum(end - first for first, end in self)


class _Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="entry"):
    """What all entries have; the field names are a contract of the journal's topic."""

    run: str
    at_ms: int


class RunBegun(_Entry, frozen=True, kw_only=True, tag="begun"):
    """A run began.

    Attributes:
        run: Name of the run.
        at_ms: When it began; the filter measures ages at this instant, also on resume.
        action: ``replay``, ``discard``, ``edit`` or ``import``.
        by: Person who began it.
        reason: Why, in their words.
        source: The dead-letter topic.
        spans: Offsets that it looks at, by partition.
        filter: Filter that selects letters.
        limit: Most letters that it moves; ``None`` for no limit.
        policy: How letters go back.
        again: Whether letters that a run has handled are selected too.
        file: File that an import reads.
        topic_id: Id of the topic; empty if the log has no ids, and in entries of
            earlier versions.
    """

    action: str
    by: str
    reason: str
    source: str
    spans: dict[int, Range]
    filter: str = ""
    limit: int | None = None
    policy: ReplayPolicy = ReplayPolicy()
    again: bool = False
    file: str = ""
    topic_id: str = ""


class RunTaken(_Entry, frozen=True, kw_only=True, tag="taken"):
    """A process begins or resumes a run.

    A process that has read the journal up to its own entry has read everything that was
    written before it, also while another run is writing.

    Attributes:
        run: Name of the run.
        at_ms: When the process began or resumed it.
        by: Person who began or resumed it.
    """

    by: str = ""


class RunStep(_Entry, frozen=True, kw_only=True, tag="step"):
    """A run handled letters: written together with their records.

    Attributes:
        run: Name of the run.
        at_ms: When the entry was written.
        upto: Offset where the run continues, by partition.
        handled: Offsets of letters that are handled.
        counts: By what became of them: ``sent``, ``parked``, ``discarded``, ``edited``,
            ``imported``, ``refused``, and ``skipped`` with its reason behind a colon.
    """

    upto: dict[int, int]
    handled: Ranges = {}
    counts: dict[str, int] = {}


class RunEnded(_Entry, frozen=True, kw_only=True, tag="ended"):
    """A run ended, or stopped for now.

    Attributes:
        run: Name of the run.
        at_ms: When it ended.
        is_done: Whether nothing is left to do.
        why: What stopped it; empty if it is done.
    """

    is_done: bool
    why: str = ""


Entry: TypeAlias = RunBegun | RunTaken | RunStep | RunEnded

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(Entry).decode


class Run(msgspec.Struct, kw_only=True):
    """A run, from all its entries.

    Attributes:
        begun: Its first entry.
        at_ms: Instant of its last entry.
        upto: Offset where the run continues, by partition.
        counts: As in `RunStep`, added up.
        state: ``running`` (or killed), ``stopped`` or ``done``.
        why: What stopped it.
    """

    begun: RunBegun
    at_ms: int
    upto: dict[int, int] = {}
    counts: dict[str, int] = {}
    state: str = "running"
    why: str = ""

    @property
    def moved(self) -> int:
        """Number of letters that are no longer open."""
        return sum(self.counts.get(name, 0) for name in ("sent", "parked", "discarded"))


class RunHistory:
    """All runs of a journal.

    Attributes:
        runs: By name, oldest first.
        read_upto: How far the journal was read, by partition.
        taken: Entries of processes that began or resumed a run.
        journal_id: Id of the topic that was read; empty if none was, or if the log
            has no ids.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.clear()
        for entry in entries:
            self.note(entry)

    def clear(self) -> None:
        """Remove everything: the journal that was read no longer exists."""
        self.runs: dict[str, Run] = {}
        self.read_upto: dict[int, int] = {}
        self.taken: set[RunTaken] = set()
        self.journal_id = ""
        # By a topic's name and id; of a run that names no id, by its own name.
        self._handled: dict[tuple[str, str], dict[int, OffsetSet]] = {}
        self._handled_by: dict[str, dict[int, OffsetSet]] = {}

    def note(self, entry: Entry) -> None:
        """Add an entry; one of a run that never began is ignored."""
        if isinstance(entry, RunBegun):
            # A name is used once: a second beginning does not replace the run.
            self.runs.setdefault(entry.run, Run(begun=entry, at_ms=entry.at_ms))
            return
        if isinstance(entry, RunTaken):
            self.taken.add(entry)
        run = self.runs.get(entry.run)
        if run is None:
            return
        run.at_ms = max(run.at_ms, entry.at_ms)
        if isinstance(entry, RunEnded):
            run.state, run.why = ("done" if entry.is_done else "stopped"), entry.why
            return
        run.state, run.why = "running", ""
        if isinstance(entry, RunTaken):
            return
        for part, offset in entry.upto.items():
            run.upto[part] = max(offset, run.upto.get(part, 0))
        for name, count in entry.counts.items():
            run.counts[name] = run.counts.get(name, 0) + count
        self._mark(run, entry)

    def handled(self, source: str, topic_id: str) -> dict[int, OffsetSet]:
        """Offsets handled by runs that record this topic and id, by partition."""
        return self._handled.setdefault((source, topic_id), {})

    def handled_by(self, run: Run) -> dict[int, OffsetSet]:
        """Offsets handled by a run that records no id, by partition."""
        return self._handled_by.setdefault(run.begun.run, {})

    def unnamed(self, source: str, topic_id: str) -> list[Run]:
        """Runs on a topic without an id; none before a run that records another id."""
        found: list[Run] = []
        for run in self.runs.values():
            if run.begun.source != source:
                continue
            if not run.begun.topic_id:
                found.append(run)
            elif run.begun.topic_id != topic_id:
                found.clear()
        return found

    def _mark(self, run: Run, step: RunStep) -> None:
        source, topic_id = run.begun.source, run.begun.topic_id
        parts = self.handled(source, topic_id) if topic_id else self.handled_by(run)
        for part, ranges in step.handled.items():
            for first, end in ranges:
                parts.setdefault(part, OffsetSet()).add(first, end)


class Journal:
    """Reads the journal of a namespace; runs write to it along with their records.

    Args:
        admin: Admin of the log.
        namespace: Namespace of the runs.
    """

    def __init__(self, admin: LogAdmin, namespace: str) -> None:
        self._admin, self.namespace = admin, namespace
        self.topic = journal_topic(namespace)

    async def load(self, history: RunHistory | None = None) -> RunHistory:
        """Everything that was written so far; entries of other versions are skipped.

        Args:
            history: What was read before; only later entries are read and added. If the
                journal was deleted since, only its new entries remain.
        """
        history = RunHistory() if history is None else history
        if self.topic not in await self._admin.topics():
            history.clear()
            return history
        journal_id = (await self._admin.topic_ids([self.topic])).get(self.topic, "")
        if history.journal_id != journal_id:
            history.clear()
            history.journal_id = journal_id
        spans = {
            part: Span(max(span.first, history.read_upto.get(part, 0)), span.end)
            for part, span in (await self._admin.spans(self.topic)).items()
        }
        async for batch in self._admin.scan(self.topic, spans):
            for delivery in batch:
                history.read_upto[delivery.partition] = delivery.offset + 1
                try:
                    history.note(_DECODE(delivery.value or b""))
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
        return history

    async def load_upto(
        self, taken: RunTaken, clock: Clock, history: RunHistory | None = None
    ) -> RunHistory:
        """Everything that was written up to an entry that is written already.

        While another run's transaction is open in the journal, it hides the entries
        behind it.

        Args:
            taken: The entry.
            clock: Waits.
            history: As for `load`.

        Raises:
            StoreUnavailableError: The entry was still hidden after 40 s.
        """
        history = RunHistory() if history is None else history
        until = clock.monotonic() + _HIDDEN_S
        while taken not in (await self.load(history)).taken:
            if clock.monotonic() > until:
                detail = f"{self.topic} ends in a transaction that does not end"
                raise StoreUnavailableError("log", "read", detail)
            await clock.sleep(_LOOK_S)
        return history

    async def prepare(self) -> None:
        """Create the topic if it does not exist.

        Raises:
            StoreRefusedError: The log refuses to create it.
        """
        if self.topic not in await self._admin.topics():
            await self._admin.apply([journal_spec(self.namespace)])

    def record(self, entry: Entry) -> Record:
        """The record of an entry."""
        return Record(self.topic, _ENCODE(entry), [], entry.run.encode())


def journal_spec(namespace: str) -> TopicSpec:
    """One partition, so that entries have one order; kept for a year."""
    return TopicSpec(journal_topic(namespace), 1, _YEAR_MS, _JOURNAL_BYTES)


def parking_spec(source: str, max_record_bytes: int = _PARKING_BYTES) -> TopicSpec:
    """One partition, since few letters are parked; kept for a year."""
    return TopicSpec(parking_topic(source), 1, _YEAR_MS, max_record_bytes)


def letter_specs(
    namespace: str, sources: Iterable[str], max_record_bytes: int
) -> list[TopicSpec]:
    """Topics that runs on these dead-letter topics need: parking and the journal.

    Args:
        namespace: Namespace of the journal.
        sources: The dead-letter topics.
        max_record_bytes: Largest record of a parking topic.
    """
    parked = [parking_spec(source, max_record_bytes) for source in sources]
    return [*parked, journal_spec(namespace)]
