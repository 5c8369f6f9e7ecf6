"""A run: letters go back, are parked or discarded; each of them once.

In turns: read, decide, send, and only when the log has acknowledged every record of a
turn, write the step into the journal. Killed between the two, a run knows at its
resume since when its records may lie in their topics, reads those of that time, and
leaves out what arrived. Where the log has transactions, records and step are one of
them. A replay that nevertheless arrives twice (its sender was frozen for longer than
its lease) has one id, and is one job to the claim store.

One run at a time works on a dead-letter topic.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shifter.deadletter.arrival import arrived
from shifter.deadletter.field import Letter
from shifter.deadletter.filter import compile_filter
from shifter.deadletter.gate import SAMPLE, OpenGate, ReplayGate, StopPolicy, Watch
from shifter.deadletter.hold import Hold
from shifter.deadletter.incarnation import read_job
from shifter.deadletter.journal import (
    DISCARD,
    Book,
    Ended,
    Journal,
    Run,
    Step,
    check_written,
)
from shifter.deadletter.pace import PacePolicy, batch_size, wait_s
from shifter.deadletter.plan import (
    Fate,
    Park,
    Road,
    Send,
    Skip,
    decide,
)
from shifter.deadletter.ranges import ranges_of
from shifter.deadletter.reader import OnProgress, Progress, declared_lanes, no_progress
from shifter.errors import StoreUnavailableError
from shifter.model.lane import parse_lane
from shifter.model.reason import PASSING, Reason
from shifter.ports import (
    AppendAnswer,
    Appended,
    ClaimStore,
    Clock,
    Delivery,
    LaneLog,
    LogAdmin,
    Record,
    Refused,
    Span,
)

_TURN: Final = 2_000
_LOOKED_AT: Final = 50_000
_APPEND_S: Final = 30.0
_LOOK_EVERY_S: Final = 1.0
_ALL_REFUSED: Final = PASSING | {Reason.CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayParts:
    """What a run works with.

    Attributes:
        log: Where records go.
        admin: Of the same log.
        claims: For the hold, and to see how replays fare.
        clock: A real one.
        journal: Of the namespace.
        namespace: Of the fleet.
        is_atomic: Whether one append of the log is one transaction.
        gate: Budgets and circuits.
    """

    log: LaneLog
    admin: LogAdmin
    claims: ClaimStore
    clock: Clock
    journal: Journal
    namespace: str
    is_atomic: bool
    gate: ReplayGate = field(default_factory=OpenGate)


class _Stopped(Exception):  # noqa: N818  # ends a run from within, never seen outside
    """The run cannot go on now."""


class _Chosen(NamedTuple):
    """A letter of a turn, and what becomes of it; ``None``: it is discarded."""

    delivery: Delivery
    fate: Fate | None
    has_arrived: bool


class _Turn:
    """Letters that are handled together."""

    def __init__(self) -> None:
        self.chosen: list[_Chosen] = []
        self.upto: dict[int, int] = {}
        self.looked_at = 0

    @property
    def moved(self) -> list[_Chosen]:
        """Those that leave the open letters."""
        return [each for each in self.chosen if not isinstance(each.fate, Skip)]


class Replayer:
    """Carries out one run, or the rest of it.

    Args:
        parts: What it works with.
        run: As the journal has it.
        book: Of the journal.
        hold: On the run's source.
        pace: How fast.
        stop: When it stops by itself.
    """

    def __init__(
        self,
        parts: ReplayParts,
        run: Run,
        book: Book,
        hold: Hold,
        *,
        pace: PacePolicy,
        stop: StopPolicy,
    ) -> None:
        self._parts, self._run, self._book, self._hold = parts, run, book, hold
        self._pace = pace
        self._on_progress: OnProgress = no_progress
        self._watch = Watch(parts.claims, stop)
        self._begun = run.begun
        self._test = compile_filter(run.begun.filter)
        self._arrived: frozenset[str] = frozenset()
        self._road = Road(run=run.begun.run, namespace="", source="", lanes=frozenset())
        self._passed = self._sent_now = self._chosen_now = 0
        self._started_at = self._looked_at = 0.0

    async def carry_out(
        self, on_progress: OnProgress = no_progress, *, is_resumed: bool
    ) -> Run:
        """Work until nothing is left, or something stops it; how the run stands then.

        Args:
            on_progress: Told after each turn.
            is_resumed: Whether somebody worked on this run before.

        Raises:
            StoreError: The log or the journal failed; the run can be resumed.
        """
        begun, parts = self._begun, self._parts
        self._on_progress = on_progress
        topics = await parts.admin.topics()
        lanes = declared_lanes(parts.namespace, topics)
        self._road = Road(
            run=begun.run, namespace=parts.namespace, source=begun.source, lanes=lanes
        )
        if is_resumed and not parts.is_atomic and begun.action != DISCARD:
            goals = {*lanes, *begun.policy.targets.values(), self._road.parking}
            known = goals.intersection(topics)
            self._arrived = await arrived(parts.admin, known, self._run.sure_ms)
        spans = {p: Span(*span) for p, span in begun.spans.items()}
        rest = {
            p: Span(self._run.upto.get(p, s.first), s.end) for p, s in spans.items()
        }
        self._passed = sum(rest[p].first - s.first for p, s in spans.items())
        self._started_at = parts.clock.monotonic()
        try:
            await self._all_turns(rest)
        except _Stopped as stopped:
            return await self._end(is_done=False, why=str(stopped))
        return await self._end(is_done=True)

    async def _end(self, *, is_done: bool, why: str = "") -> Run:
        entry = Ended(run=self._begun.run, at_ms=self._now(), is_done=is_done, why=why)
        await self._parts.journal.write(entry)
        self._book.note(entry)
        return self._run

    async def _all_turns(self, rest: dict[int, Span]) -> None:
        """One turn is sent while the next one is read."""
        try:
            async with asyncio.TaskGroup() as group:
                before: asyncio.Task[None] | None = None
                async for turn in self._turns(rest):
                    if before is not None:
                        await before
                    before = group.create_task(self._work(turn))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _turns(self, rest: dict[int, Span]) -> AsyncGenerator[_Turn]:
        turn, size = _Turn(), self._size()
        batches = self._parts.admin.scan(self._begun.source, rest)
        async for batch in batches:
            for delivery in batch:
                if self._is_full():
                    break
                turn.looked_at += 1
                turn.upto[delivery.partition] = delivery.offset + 1
                chosen = self._choose(delivery)
                if chosen is not None:
                    turn.chosen.append(chosen)
                    self._chosen_now += not isinstance(chosen.fate, Skip)
                if len(turn.chosen) >= size or turn.looked_at >= _LOOKED_AT:
                    yield turn
                    turn, size = _Turn(), self._size()
            if self._is_full():
                break
        if turn.looked_at:
            yield turn

    def _size(self) -> int:
        return batch_size(self._pace, self._chosen_now, most=_TURN)

    def _is_full(self) -> bool:
        limit = self._begun.limit
        if limit is None:
            return False
        before = self._run.moved - self._sent_now
        return before + self._chosen_now >= limit

    def _choose(self, delivery: Delivery) -> _Chosen | None:
        begun = self._begun
        if not begun.again and not self._book.is_open(
            begun.source, delivery.partition, delivery.offset
        ):
            return None
        letter = Letter(delivery, begun.at_ms)
        if not self._test(letter):
            return None
        if begun.action == DISCARD:
            return _Chosen(delivery, None, has_arrived=False)
        fate = decide(letter, begun.policy, self._road, now_ms=self._now())
        has_arrived = not isinstance(fate, Skip) and fate.replay_id in self._arrived
        return _Chosen(delivery, fate, has_arrived)

    async def _work(self, turn: _Turn) -> None:
        """Send a turn and note that it is done."""
        moved = turn.moved
        sending = [each for each in moved if each.fate and not each.has_arrived]
        records = [
            each.fate.record for each in sending if isinstance(each.fate, Send | Park)
        ]
        await self._may_go_on(len(moved), records)
        step = self._step(turn, moved)
        if self._parts.is_atomic:
            written = self._parts.journal.record(step)
            *answers, last = await self._append([*records, written])
            check_written([last])
        else:
            answers = await self._append(records) if records else []
        refused = [
            each
            for each, answer in zip(sending, answers, strict=True)
            if isinstance(answer, Refused)
        ]
        if not self._parts.is_atomic:
            step = self._step(turn, moved, refused)
            await self._parts.journal.write(step)
        elif refused:
            self._book.note(step)
            step = self._reopening(refused)
            await self._parts.journal.write(step)
        self._book.note(step)
        self._sent_now += len(moved) - len(refused)
        self._passed += turn.looked_at
        self._watch.take(_sample(sending))
        total = sum(end - first for first, end in self._begun.spans.values())
        self._on_progress(Progress(self._passed, total, dict(self._run.counts)))

    async def _append(self, records: list[Record]) -> list[AppendAnswer]:
        answers = await self._parts.log.append(records, timeout_s=_APPEND_S)
        for answer in answers:
            if isinstance(answer, Refused):
                if answer.reason in _ALL_REFUSED:
                    raise _Stopped(f"the log takes nothing more: {answer.detail}")
            elif not isinstance(answer, Appended):
                # The journal does not have the turn: a resume looks for its records.
                raise StoreUnavailableError("log", "append", answer.detail)
        return answers

    async def _may_go_on(self, count: int, records: Iterable[Record]) -> None:
        clock = self._parts.clock
        due_at = self._started_at + wait_s(self._pace, self._sent_now + count)
        while True:
            if not self._hold.is_trusted:
                raise _Stopped("the hold on the topic was lost")
            if clock.monotonic() >= self._looked_at + _LOOK_EVERY_S:
                self._looked_at = clock.monotonic()
                await self._watch.look()
            why = self._watch.verdict()
            if why is not None:
                raise _Stopped(why)
            left_s = due_at - clock.monotonic()
            if left_s <= 0:
                break
            await clock.sleep(min(left_s, _LOOK_EVERY_S))
        for target, many in Counter(record.topic for record in records).items():
            why = self._parts.gate.refusal(target, many)
            if why is not None:
                raise _Stopped(f"{target}: {why}")

    def _step(
        self, turn: _Turn, moved: list[_Chosen], refused: Iterable[_Chosen] = ()
    ) -> Step:
        not_taken = {id(each) for each in refused}
        done = [each for each in moved if id(each) not in not_taken]
        counts = Counter(
            _name(each) for each in turn.chosen if id(each) not in not_taken
        )
        if not_taken:
            counts["refused"] = len(not_taken)
        return Step(
            run=self._begun.run,
            at_ms=self._now(),
            upto=turn.upto,
            handled=_places(done),
            counts=dict(counts),
        )

    def _reopening(self, refused: list[_Chosen]) -> Step:
        counts = Counter({"refused": len(refused)})
        counts.subtract(_name(each) for each in refused)
        return Step(
            run=self._begun.run,
            at_ms=self._now(),
            upto={},
            reopened=_places(refused),
            counts=dict(counts),
        )

    def _now(self) -> int:
        return self._parts.clock.epoch_ms()


def _name(chosen: _Chosen) -> str:
    match chosen.fate:
        case Send():
            return "sent"
        case Park():
            return "parked"
        case Skip(reason):
            return f"skipped:{reason}"
        case _:
            return "discarded"


def _places(chosen: Iterable[_Chosen]) -> dict[int, list[tuple[int, int]]]:
    offsets: dict[int, list[int]] = {}
    for each in chosen:
        offsets.setdefault(each.delivery.partition, []).append(each.delivery.offset)
    return {part: ranges_of(sorted(found)) for part, found in offsets.items()}


def _sample(sent: list[_Chosen]) -> list[tuple[str, int]]:
    """Ids and first attempts of some of the jobs that were sent."""
    found = []
    for each in sent[:: max(1, len(sent) // SAMPLE)][:SAMPLE]:
        if isinstance(each.fate, Send) and parse_lane(each.fate.record.topic):
            read = read_job(each.fate.record.headers)
            if read is not None:
                found.append((each.fate.replay_id, read.envelope.attempt))
    return found
