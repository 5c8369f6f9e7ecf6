"""`DeadLetters`: reads the dead letters of one topic and carries out runs on them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Final

from shifter.deadletter.filter import compile_filter
from shifter.deadletter.gate import StopPolicy
from shifter.deadletter.journal import (
    DISCARD,
    EDIT,
    IMPORT,
    REPLAY,
    RESUMABLE,
    Entry,
    Run,
    RunBegun,
    RunEnded,
    RunHistory,
    RunStep,
    RunTaken,
    parking_spec,
)
from shifter.deadletter.pace import PacePolicy
from shifter.deadletter.plan import ReplayPolicy, replay_id
from shifter.deadletter.reader import (
    ALL,
    LetterReader,
    OnProgress,
    Selection,
    is_of_now,
    no_progress,
    topic_id,
)
from shifter.deadletter.replay import Replayer, ReplayParts, write
from shifter.deadletter.topic_lease import TopicLease, holding
from shifter.deadletter.transfer import bring_in
from shifter.errors import ConfigError
from shifter.model.advice import nearest
from shifter.model.lane import check_name, holds_jobs, parking_topic
from shifter.ports import Delivery, Record
from shifter.wire.envelope import CONTENT_TYPE_HEADER
from shifter.wire.headers import JSON

EDITED_OF: Final = "shifter-edited-of"
"""Header of an edited letter: the place of the original."""


class DeadLetters(LetterReader):
    """The dead letters of one topic. Made by ``app.dead_letters(...)``.

    Args:
        parts: What the runs work with.
        source: The topic.
    """

    def __init__(self, parts: ReplayParts, source: str) -> None:
        super().__init__(parts.admin, parts.journal, parts.clock, source)
        self._parts = parts

    async def replay(  # noqa: PLR0913  # one keyword an option, all optional
        self,
        selection: Selection = ALL,
        *,
        reason: str,
        by: str,
        name: str | None = None,
        limit: int | None = None,
        policy: ReplayPolicy = ReplayPolicy(),  # noqa: B008  # frozen
        pace: PacePolicy = PacePolicy(),  # noqa: B008  # frozen
        stop: StopPolicy = StopPolicy(),  # noqa: B008  # frozen
        on_progress: OnProgress = no_progress,
    ) -> Run:
        """Send dead letters back to their topics, each of them once.

        Args:
            selection: Which letters.
            reason: Why, for the journal.
            by: Person who begins the run.
            name: Name of the run; ``None`` makes one.
            limit: Most letters that are moved; ``None`` for no limit.
            policy: How letters go back.
            pace: How fast they go back.
            stop: When the run stops by itself.
            on_progress: Called after each batch.

        Returns:
            The run, which may have stopped before its end.

        Raises:
            FilterError: The filter is wrong.
            ConfigError: A target does not exist, or another run has the name.
            HeldElsewhereError: Another run works on this topic.
            StoreError: The log or a store failed; `resume` goes on.
        """
        topics = await self._parts.admin.topics()
        self.check_targets(policy, topics)
        begun = await self._begin(
            selection, REPLAY, name, reason=reason, by=by, limit=limit, policy=policy
        )
        parking = parking_topic(self.source)
        if parking not in topics:
            await self._parts.admin.apply([parking_spec(self.source)])
        return await self._run(begun, pace, stop, on_progress)

    async def discard(
        self,
        selection: Selection = ALL,
        *,
        reason: str,
        by: str,
        name: str | None = None,
        limit: int | None = None,
        on_progress: OnProgress = no_progress,
    ) -> Run:
        """Mark dead letters as handled; the log keeps them until its retention ends.

        Args:
            selection: Which letters.
            reason: Why, for the journal.
            by: Person who begins the run.
            name: Name of the run; ``None`` makes one.
            limit: Most letters that are discarded; ``None`` for no limit.
            on_progress: Called after each batch.

        Raises:
            FilterError, ConfigError, HeldElsewhereError, StoreError: As for `replay`.
        """
        begun = await self._begin(
            selection, DISCARD, name, reason=reason, by=by, limit=limit
        )
        # Nothing is sent, so there is no lane to spare and no outcome to stop for.
        pace = PacePolicy(slow_start_s=0)
        return await self._run(begun, pace, StopPolicy(ratio=2), on_progress)

    async def resume(  # noqa: PLR0913  # one keyword an option, all optional
        self,
        name: str,
        *,
        by: str = "",
        pace: PacePolicy = PacePolicy(),  # noqa: B008  # frozen
        stop: StopPolicy = StopPolicy(),  # noqa: B008  # frozen
        on_progress: OnProgress = no_progress,
        on_wait: Callable[[float], None] = lambda _: None,
        history: RunHistory | None = None,
    ) -> Run:
        """Resume a run that was stopped or killed; a run that is done stays done.

        Args:
            name: Name of the run.
            by: Person who resumes it.
            pace: How fast it goes.
            stop: When it stops by itself.
            on_progress: Called after each batch.
            on_wait: Called with the seconds of each wait for another holder.
            history: Journal as read before; ``None`` reads all of it.

        Raises:
            ConfigError: This topic has no such run, or was created again since the run
                began, or runs of this kind cannot be resumed.
            HeldElsewhereError, StoreError: As `replay`.
        """
        history = await self._parts.journal.load() if history is None else history
        # A name that does not exist is refused before the wait for the lease.
        find_run(history, name)
        async with self._lease(name, on_wait) as lease:
            history = await self._load_history(name, by, history)
            run = find_run(history, name)
            if run.begun.source != self.source:
                want = f"it works on {run.begun.source!r}"
                raise ConfigError("--resume", name, want)
            if run.begun.action not in RESUMABLE:
                see = f"inspect it with: shifter dlt runs {name}"
                want = f"an {run.begun.action} cannot be resumed; {see}"
                raise ConfigError("--resume", name, want)
            if run.state == "done":
                return run
            if not await is_of_now(self._parts.admin, history, run):
                want = f"{self.source} was created again since: begin a new run"
                raise ConfigError("--resume", name, want)
            replayer = Replayer(self._parts, run, history, lease, pace=pace, stop=stop)
            return await replayer.carry_out(on_progress)

    async def edit(
        self,
        delivery: Delivery,
        value: bytes,
        *,
        content_type: str = JSON,
        reason: str,
        by: str,
    ) -> Run:
        """Append a letter with another payload; the original is kept.

        Args:
            delivery: The dead letter.
            value: The new payload, which the caller has checked.
            content_type: Format of the payload.
            reason: Why, for the journal.
            by: Person who edits it.
        """
        place = (delivery.offset, delivery.offset + 1)
        selection = Selection(parts={delivery.partition: place})
        at = f"{delivery.topic}/{delivery.partition}/{delivery.offset}"
        headers = [each for each in delivery.headers if each[0] != CONTENT_TYPE_HEADER]
        headers.append((CONTENT_TYPE_HEADER, content_type.encode()))
        headers.append((EDITED_OF, at.encode()))
        record = Record(self.source, value, headers, delivery.key)
        begun = await self._begin(selection, EDIT, reason=reason, by=by)
        parts, now_ms = self._parts, self._parts.clock.epoch_ms()
        step = RunStep(
            run=begun.run,
            at_ms=now_ms,
            upto={delivery.partition: place[1]},
            handled={delivery.partition: [place]},
            counts={"edited": 1},
        )
        ended = RunEnded(run=begun.run, at_ms=now_ms, is_done=True)
        entries: list[Entry] = [begun, step, ended]
        async with self._lease(begun.run):
            await write(parts, [record, *map(parts.journal.record, entries)])
        return RunHistory(entries).runs[begun.run]

    async def bring_in(
        self, records: Iterable[Record], *, reason: str, by: str, file: str = ""
    ) -> Run:
        """Append dead letters that were exported.

        Args:
            records: Records as `shifter.deadletter.transfer.read_lines` reads them.
            reason: Why, for the journal.
            by: Person who imports them.
            file: File that they come from, for the journal.

        Raises:
            ConfigError: The topic holds no dead letters.
            HeldElsewhereError: As for `replay`.
            StoreError, DecodeError: Not all records were appended; the journal has the
                number of those that were.
        """
        nothing = Selection(parts={})
        begun = await self._begin(nothing, IMPORT, reason=reason, by=by, file=file)
        async with self._lease(begun.run):
            return await bring_in(self._parts, begun, records)

    @contextlib.asynccontextmanager
    async def _lease(
        self, run: str, on_wait: Callable[[float], None] = lambda _: None
    ) -> AsyncGenerator[TopicLease]:
        """Hold the topic's lease; settle what a killed run has left in the log."""
        parts, owner = self._parts, f"run {run}"
        async with holding(
            parts.claims, parts.clock, self.source, owner=owner, on_wait=on_wait
        ) as lease:
            await parts.log.open()
            yield lease

    async def _load_history(
        self, run: str, by: str, known: RunHistory | None = None
    ) -> RunHistory:
        """The journal up to this moment; the caller holds the lease."""
        parts = self._parts
        taken = RunTaken(run=run, at_ms=parts.clock.epoch_ms(), by=by)
        await write(parts, [parts.journal.record(taken)])
        return await parts.journal.load_upto(taken, parts.clock, known)

    async def _run(
        self,
        begun: RunBegun,
        pace: PacePolicy,
        stop: StopPolicy,
        on_progress: OnProgress,
    ) -> Run:
        parts = self._parts
        async with self._lease(begun.run) as lease:
            history = await self._load_history(begun.run, begun.by)
            if begun.run in history.runs:
                want = "a run has this name: resume it, or choose another one"
                raise ConfigError("--name", begun.run, want)
            await write(parts, [parts.journal.record(begun)])
            history.note(begun)
            run = history.runs[begun.run]
            replayer = Replayer(parts, run, history, lease, pace=pace, stop=stop)
            return await replayer.carry_out(on_progress)

    async def _begin(
        self, selection: Selection, action: str, name: str | None = None, **fields: Any
    ) -> RunBegun:
        """The first entry of a run, which is not written yet."""
        compile_filter(selection.filter)
        is_journal = self.source == self._parts.journal.topic
        if is_journal or holds_jobs(self.namespace, self.source):
            want = "it holds no dead letters: name their topic, or a queue"
            raise ConfigError("dead letters", self.source, want)
        await self._parts.journal.prepare()
        at_ms = self._parts.clock.epoch_ms()
        # The id is read first: offsets of a topic deleted since then do not count.
        source_id = await topic_id(self._parts.admin, self.source)
        spans = await self.spans(selection)
        return RunBegun(
            run=_run_name(action, at_ms, self.source)
            if name is None
            else check_name("--name", name),
            at_ms=at_ms,
            action=action,
            source=self.source,
            spans={part: (span.first, span.end) for part, span in spans.items()},
            filter=selection.filter,
            again=selection.again,
            topic_id=source_id,
            **fields,
        )


def find_run(history: RunHistory, name: str) -> Run:
    """The run of a name.

    Raises:
        ConfigError: There is none; the error names the nearest.
    """
    run = history.runs.get(name)
    if run is None:
        raise ConfigError("--resume", name, nearest(name, list(history.runs), "runs"))
    return run


def _run_name(action: str, at_ms: int, source: str) -> str:
    """A new name for a run: its action, and eight digits made of time and topic."""
    return f"{action}-{replay_id(str(at_ms), source)[:8]}"
