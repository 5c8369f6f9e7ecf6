"""Opens the dead letters of a topic: from settings to what looks at them and runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.deadletter.dead_letters import DeadLetters
from shifter.deadletter.gate import CircuitGate
from shifter.deadletter.journal import Journal
from shifter.deadletter.reader import LetterReader, find_topic
from shifter.deadletter.replay import ReplayParts
from shifter.errors import ConfigError
from shifter.model.hint import nearest
from shifter.ports import LogAdmin


@contextlib.asynccontextmanager
async def opened_by_name(
    settings: Settings, source: str
) -> AsyncGenerator[DeadLetters]:
    """The dead letters of a queue of the namespace, or of a topic.

    Raises:
        ConfigError: There is no such topic; names the nearest.
    """
    admin = wiring.open_admin(settings)
    try:
        topic = await find_topic(admin, settings.namespace, source)
        if topic is None:
            want = nearest(source, await admin.topics(), "topics")
            raise ConfigError("dead letters", source, want)
        async with opened_dead_letters(settings, topic, admin) as letters:
            yield letters
    finally:
        await admin.close()


def letter_reader(settings: Settings, admin: LogAdmin, source: str) -> LetterReader:
    """The dead letters of a topic, for reading; the admin stays the caller's."""
    namespace = settings.namespace
    journal = Journal(admin, namespace)
    return LetterReader(admin, journal, SystemClock(), namespace, source)


@contextlib.asynccontextmanager
async def opened_dead_letters(
    settings: Settings, source: str, admin: LogAdmin | None = None
) -> AsyncGenerator[DeadLetters]:
    """The dead letters of a topic, with all that runs need.

    Args:
        settings: Name the log and the state store.
        source: The topic.
        admin: Of the same log, where one is open; it stays the caller's.

    Raises:
        ConfigError: No log or no state store is configured.
    """
    async with contextlib.AsyncExitStack() as held:
        log = wiring.open_atomic_log(settings, f"replays.{source}")
        held.push_async_callback(log.close)
        if admin is None:
            admin = wiring.open_admin(settings)
            held.push_async_callback(admin.close)
        claims = wiring.open_claims(settings)
        held.push_async_callback(claims.close)
        presence = wiring.open_presence(settings)
        held.push_async_callback(presence.close)
        fleet = wiring.open_fleet(settings)
        held.push_async_callback(fleet.close)
        clock, me = SystemClock(), wiring.new_worker_id()
        parts = ReplayParts(
            log=log,
            admin=admin,
            claims=claims,
            presence=presence,
            clock=clock,
            journal=Journal(admin, settings.namespace),
            namespace=settings.namespace,
            gate=CircuitGate(fleet, presence, clock, me),
        )
        yield DeadLetters(parts, source)
