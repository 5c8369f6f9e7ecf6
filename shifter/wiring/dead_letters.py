"""Opens the dead letters of a queue or topic: from settings to readers and runs.

The name is resolved here and nowhere else, so every way in fails with the same error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.deadletter.dead_letters import DeadLetters, find_run
from shifter.deadletter.gate import CircuitGate
from shifter.deadletter.journal import Journal, RunHistory
from shifter.deadletter.reader import LetterReader, find_topic
from shifter.deadletter.replay import ReplayParts
from shifter.errors import ConfigError
from shifter.ports import LogAdmin
from shifter.runtime.threads import in_thread
from shifter.telemetry import Tracing
from shifter.telemetry.job_events import JobEventStream

_CLOSE_S: Final = 2.0
"""How long the end of a run waits for its events after they were written."""
_TRACING: Final = Tracing()


@contextlib.asynccontextmanager
async def opened_letter_reader(
    settings: Settings, source: str
) -> AsyncGenerator[LetterReader]:
    """The dead letters of a queue of the namespace, or of a topic, for reading.

    Raises:
        UnknownSourceError: There is no such topic; the error names the nearest.
        StoreError: The log does not answer.
    """
    async with wiring.opened_admin(settings) as admin:
        namespace = settings.namespace
        topic = await find_topic(admin, namespace, source)
        journal = Journal(admin, namespace)
        yield LetterReader(admin, journal, SystemClock(), topic)


@contextlib.asynccontextmanager
async def opened_dead_letters(
    settings: Settings, source: str, tracing: Tracing = _TRACING
) -> AsyncGenerator[DeadLetters]:
    """The dead letters of a queue of the namespace, or of a topic, for runs.

    Args:
        settings: Name the log and the state store.
        source: A queue, or a topic.
        tracing: How the runs are traced.

    Raises:
        UnknownSourceError: There is no such topic; the error names the nearest.
        ConfigError: No log or no state store is configured.
        StoreError: The log does not answer.
    """
    async with wiring.opened_admin(settings) as admin:
        topic = await find_topic(admin, settings.namespace, source)
        async with _opened(settings, admin, topic, tracing) as letters:
            yield letters


@contextlib.asynccontextmanager
async def opened_run(
    settings: Settings, name: str, source: str | None = None
) -> AsyncGenerator[tuple[DeadLetters, RunHistory]]:
    """The dead letters that a run works on, and the history that was read for it.

    Args:
        settings: Name the log and the state store.
        name: Name of the run.
        source: Queue or topic that the run must work on; ``None`` for any.

    Raises:
        UnknownSourceError: There is no such topic; the error names the nearest.
        ConfigError: There is no such run, or it works on another topic.
        StoreError: The log does not answer.
    """
    async with wiring.opened_admin(settings) as admin:
        history = await Journal(admin, settings.namespace).load()
        topic = find_run(history, name).begun.source
        if source is not None:
            found = await find_topic(admin, settings.namespace, source)
            if found != topic:
                want = f"it works on {topic!r}: leave {source!r} out"
                raise ConfigError("--resume", name, want)
        async with _opened(settings, admin, topic, _TRACING) as letters:
            yield letters, history


@contextlib.asynccontextmanager
async def _opened(
    settings: Settings, admin: LogAdmin, topic: str, tracing: Tracing
) -> AsyncGenerator[DeadLetters]:
    async with contextlib.AsyncExitStack() as stack:
        log = wiring.open_atomic_log(settings, f"replays.{topic}")
        stack.push_async_callback(log.close)
        claims = wiring.open_claims(settings)
        stack.push_async_callback(claims.close)
        presence = wiring.open_presence(settings)
        stack.push_async_callback(presence.close)
        fleet = wiring.open_fleet(settings)
        stack.push_async_callback(fleet.close)
        clock, process = SystemClock(), wiring.new_worker_id()
        events = await stack.enter_async_context(_events(settings, process))
        parts = ReplayParts(
            log=log,
            admin=admin,
            claims=claims,
            presence=presence,
            clock=clock,
            journal=Journal(admin, settings.namespace),
            gate=CircuitGate(fleet, presence, clock, process),
            events=events,
            spans=wiring.spans_of(settings, tracing),
        )
        yield DeadLetters(parts, topic)


@contextlib.asynccontextmanager
async def _events(
    settings: Settings, process: str
) -> AsyncGenerator[JobEventStream | None]:
    """Where a run records what it does to jobs, on a log of its own."""
    log = wiring.open_log(settings)
    try:
        stream = wiring.open_events(settings, log, process, lambda *_: None)
        if stream is None:
            yield None
            return
        # No task group: what the block raises must leave it as it is.
        writing = asyncio.get_running_loop().create_task(stream.run())
        try:
            yield stream
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
            await stream.close()
    finally:
        await in_thread(log.close, timeout_s=_CLOSE_S)
