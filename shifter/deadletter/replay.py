"""Carries out a run: sends, parks or discards dead letters, each of them once.

A run works in batches: it reads, decides, and writes the records of a batch in one
transaction with their step in the journal. The log takes both or neither, and only from
the newest sender of the topic. So a run that was killed resumes where the journal ends,
and records that its predecessor still had under way are refused.

One run at a time works on a dead-letter topic.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from shifter.deadletter.batch import (
    Chosen,
    ReplayBatch,
    SampledReplay,
    events_of,
    record_of,
    sample_of,
    waiting_of,
)
from shifter.deadletter.filter import compile_filter
from shifter.deadletter.gate import SAMPLE, ReplayGate, StopPolicy, Watch
from shifter.deadletter.journal import DISCARD, Journal, Run, RunEnded, RunHistory
from shifter.deadletter.letter import Letter
from shifter.deadletter.pace import (
    BatchControl,
    BatchControlPolicy,
    PacePolicy,
    batch_size,
    wait_s,
)
from shifter.deadletter.plan import ReplayRoutes, decide
from shifter.deadletter.reader import (
    Handled,
    OnProgress,
    ScanProgress,
    handled_now,
    is_open,
    no_progress,
)
from shifter.deadletter.run_span import run_span
from shifter.deadletter.topic_lease import TopicLease
from shifter.errors import StoreError, StoreRefusedError
from shifter.model.reason import PASSING, Reason
from shifter.ports import (
    AtomicLog,
    ClaimStore,
    Clock,
    Delivery,
    LogAdmin,
    PresenceStore,
    Record,
    Span,
)
from shifter.telemetry.job_events import JobEventStream
from shifter.telemetry.tracing import UNTRACED, Spans

APPEND_S: Final = 30.0
_BATCH: Final = 2_000
_BATCH_BYTES: Final = 8_000_000
_READ: Final = 50_000
"""Letters that a batch reads, so that a filter that selects few still makes steps."""

_LOOK_EVERY_S: Final = 1.0
"""Seconds between two readings of outcomes."""

_EARLY: Final = 50
_LOOK_EARLY_S: Final = 0.1
"""The same until `_EARLY` outcomes are known: a short run is over within a second."""

_YIELD_EVERY: Final = 50
"""Letters after which the event loop may run: the batch before is sent meanwhile."""

_ALL_REFUSED: Final = PASSING | {Reason.CLOSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayParts:
    """What a run works with.

    Attributes:
        log: Log that records go to, opened under the name of the runs' topic.
        admin: Admin of the same log.
        claims: Store of the topic's lease and of the states of replayed jobs.
        presence: Store of the workers' reports, which name the lanes they drain.
        clock: Clock of the run; its sleeps are real.
        journal: Journal of the namespace.
        gate: Refuses to send while a circuit is open; ``None`` never refuses.
        batches: How large batches may be, so that live jobs have room.
        events: Records what a run does to jobs; ``None`` records nothing.
        spans: Traces runs.
    """

    log: AtomicLog
    admin: LogAdmin
    claims: ClaimStore
    presence: PresenceStore
    clock: Clock
    journal: Journal
    gate: ReplayGate | None = None
    batches: BatchControlPolicy = field(default_factory=BatchControlPolicy)
    events: JobEventStream | None = None
    spans: Spans = UNTRACED


class _Stopped(Exception):  # noqa: N818  # ends a run from within, never seen outside
    """The run must stop now."""


class Replayer:
    """Carries out one run, or the rest of it.

    Args:
        parts: What the run works with; its log is open.
        run: The run, from the journal.
        history: Everything that was read of the journal.
        lease: Lease on the run's source.
        pace: How fast.
        stop: When it stops by itself.
    """

    def __init__(
        self,
        parts: ReplayParts,
        run: Run,
        history: RunHistory,
        lease: TopicLease,
        *,
        pace: PacePolicy,
        stop: StopPolicy,
    ) -> None:
        self._parts, self._run, self._history, self._lease = parts, run, history, lease
        self._pace = pace
        self._on_progress: OnProgress = no_progress
        self._watch = Watch(parts.claims, stop)
        self._batch_control = BatchControl(
            parts.claims, parts.presence, parts.clock, parts.batches
        )
        self._begun = run.begun
        self._test = compile_filter(run.begun.filter)
        self._passed = self._sent_now = self._chosen_now = 0
        self._started_at = self._looked_at = 0.0
        self._is_read_up = False

    async def carry_out(self, on_progress: OnProgress = no_progress) -> Run:
        """Work until nothing is left or something stops the run.

        Args:
            on_progress: Called after each batch.

        Returns:
            The run as it is then.

        Raises:
            StoreError: The log failed; the run can be resumed.
        """
        self._on_progress = on_progress
        with run_span(self._parts.spans, self._run, self._parts.clock) as trace:
            return await self._carry_out(trace)

    async def _carry_out(self, trace: str | None) -> Run:
        begun, parts = self._begun, self._parts
        self._handled: Handled = await handled_now(
            parts.admin, self._history, begun.source
        )
        self._routes = ReplayRoutes.among(
            await parts.admin.topics(),
            run=begun.run,
            namespace=parts.journal.namespace,
            source=begun.source,
            trace=trace,
        )
        rest = {
            part: Span(self._run.upto.get(part, first), end)
            for part, (first, end) in begun.spans.items()
        }
        self._passed = sum(rest[p].first - s[0] for p, s in begun.spans.items())
        if self._yields:
            await self._batch_control.read_presence()
        self._started_at = parts.clock.monotonic()
        try:
            await self._all_batches(rest)
        except _Stopped as stopped:
            return await self._end(is_done=False, why=str(stopped))
        except asyncio.CancelledError:
            await self._end(is_done=False, why="interrupted")
            raise
        return await self._end(is_done=True)

    async def _end(self, *, is_done: bool, why: str = "") -> Run:
        entry = RunEnded(
            run=self._begun.run, at_ms=self._now(), is_done=is_done, why=why
        )
        # The failure that stops a run may refuse this entry too. Without the entry
        # the run counts as killed, and a killed run can be resumed.
        with contextlib.nullcontext() if is_done else contextlib.suppress(StoreError):
            await write(self._parts, [self._parts.journal.record(entry)])
        self._history.note(entry)
        return self._run

    async def _all_batches(self, rest: dict[int, Span]) -> None:
        """Send one batch while the next one is read."""
        try:
            async with asyncio.TaskGroup() as group:
                before: asyncio.Task[None] | None = None
                async for batch in self._batches(rest):
                    # In order: a step counts all letters before it as looked at.
                    if before is not None:
                        await before
                    before = group.create_task(self._work(batch))
                self._is_read_up = True
        except BaseExceptionGroup as errors:
            # Callers handle the errors of the log, not a group of them.
            raise errors.exceptions[0] from None

    async def _batches(self, rest: dict[int, Span]) -> AsyncGenerator[ReplayBatch]:
        batch, size = ReplayBatch(), self._size()
        chunks = self._parts.admin.scan(self._begun.source, rest)
        async for chunk in chunks:
            for number, delivery in enumerate(chunk):
                if self._is_full():
                    break
                if number % _YIELD_EVERY == 0:
                    await self._parts.clock.sleep(0)
                chosen = self._choose(delivery)
                batch.look_at(delivery, chosen)
                self._chosen_now += chosen is not None and chosen.is_moved
                if len(batch.chosen) >= size or _is_large(batch):
                    yield batch
                    batch, size = ReplayBatch(), self._size()
            if self._is_full():
                break
        if batch.looked_at:
            yield batch

    @property
    def _yields(self) -> bool:
        return self._pace.yields and self._begun.action != DISCARD

    def _size(self) -> int:
        most = self._batch_control.size(_BATCH) if self._yields else _BATCH
        return batch_size(self._pace, self._chosen_now, most=most)

    def _is_full(self) -> bool:
        limit = self._begun.limit
        if limit is None:
            return False
        before = self._run.moved - self._sent_now
        return before + self._chosen_now >= limit

    def _choose(self, delivery: Delivery) -> Chosen | None:
        begun = self._begun
        if not begun.again and not is_open(self._handled, delivery):
            return None
        letter = Letter(delivery, begun.at_ms)
        if not self._test(letter):
            return None
        if begun.action == DISCARD:
            return Chosen(delivery, None)
        decision = decide(letter, begun.policy, self._routes, now_ms=self._now())
        return Chosen(delivery, decision)

    async def _work(self, batch: ReplayBatch) -> None:
        """Send a batch, and wait until the next one may follow."""
        moved = batch.moved()
        samples = _samples(moved)
        await self._until_allowed(len(moved), samples)
        refused = await self._send(batch)
        self._sent_now += len(moved) - len(refused)
        self._passed += batch.looked_at
        self._watch.take([(each.job_id, each.attempt) for each in samples])
        self._report()
        if self._yields and moved:
            self._batch_control.sent(samples)
            await self._make_room()

    async def _send(self, batch: ReplayBatch) -> Collection[int]:
        """Write a batch and its step; return the letters that the log refuses."""
        refused: set[int] = set()
        while True:
            step = batch.step(self._begun.run, self._now(), refused)
            sending = [
                (each, record)
                for each in batch.moved(refused)
                if (record := record_of(each)) is not None
            ]
            records = [record for _, record in sending]
            records.append(self._parts.journal.record(step))
            refusals = await self._parts.log.append(records, timeout_s=APPEND_S)
            if not refusals:
                self._history.note(step)
                self._record(batch.moved(refused))
                await self._note_waiting([each for each, _ in sending])
                return refused
            for place, why in refusals.items():
                # The last record is the step; without it nothing may be sent.
                if why.reason in _ALL_REFUSED or place == len(sending):
                    raise _Stopped(f"the log takes nothing more: {why.detail}")
                refused.add(id(sending[place][0]))

    def _record(self, moved: Sequence[Chosen]) -> None:
        events = self._parts.events
        if events is not None and events.has_room():
            for event in events_of(moved, self._begun, self._now()):
                events.put(event)

    async def _note_waiting(self, sent: Sequence[Chosen]) -> None:
        """Record that these jobs wait; nothing depends on it, so errors are ignored."""
        now = self._now()
        found = (waiting_of(each, now_ms=now) for each in sent)
        waiting = [jobs for jobs in found if jobs is not None]
        if waiting:
            with contextlib.suppress(StoreError):
                await self._parts.claims.add_waiting(waiting)

    async def _make_room(self) -> None:
        while not self._is_read_up:
            pause_s = await self._batch_control.wait_s()
            if pause_s <= 0:
                return
            await self._check()
            await self._parts.clock.sleep(pause_s)
            if self._batch_control.held_s > _LOOK_EVERY_S:
                self._report()

    async def _check(self) -> None:
        """Return if the run may continue.

        Raises:
            _Stopped: It may not.
        """
        clock = self._parts.clock
        if not self._lease.is_trusted:
            raise _Stopped("the lease on the topic was lost")
        is_early = self._watch.seen < _EARLY
        every_s = _LOOK_EARLY_S if is_early else _LOOK_EVERY_S
        if clock.monotonic() >= self._looked_at + every_s:
            self._looked_at = clock.monotonic()
            await self._watch.look()
        why = self._watch.verdict()
        if why is not None:
            raise _Stopped(why)

    async def _until_allowed(
        self, count: int, samples: Sequence[SampledReplay]
    ) -> None:
        clock = self._parts.clock
        due_at = self._started_at + wait_s(self._pace, self._sent_now + count)
        while True:
            await self._check()
            left_s = due_at - clock.monotonic()
            if left_s <= 0:
                break
            await clock.sleep(min(left_s, _LOOK_EARLY_S))
        gate = self._parts.gate
        if gate and (why := await gate.refusal({each.job_type for each in samples})):
            raise _Stopped(why)

    def _report(self) -> None:
        total = sum(end - first for first, end in self._begun.spans.values())
        counts, held_s = dict(self._run.counts), self._batch_control.held_s
        self._on_progress(ScanProgress(self._passed, total, counts, held_s))

    def _now(self) -> int:
        return self._parts.clock.epoch_ms()


async def write(parts: ReplayParts, records: Sequence[Record]) -> None:
    """Write all records in one transaction.

    Raises:
        StoreRefusedError: The log refuses one; none is written.
        StoreUnavailableError: It is not known whether they were written.
    """
    for refused in (await parts.log.append(records, timeout_s=APPEND_S)).values():
        raise StoreRefusedError("log", "append", refused.detail)


def _is_large(batch: ReplayBatch) -> bool:
    return batch.looked_at >= _READ or batch.size_bytes >= _BATCH_BYTES


def _samples(moved: Sequence[Chosen]) -> list[SampledReplay]:
    """A sample of the jobs of a batch, in order; the last ones are always in it."""
    step = max(1, len(moved) // SAMPLE)
    some = [*moved[:-SAMPLE:step][:SAMPLE], *moved[-SAMPLE:]]
    return [sample for each in some if (sample := sample_of(each)) is not None]
