"""Opens a log and a shared state in a file: this folder's two registry entries."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shifter.adapters.sqlite.admin import SqliteLogAdmin
from shifter.adapters.sqlite.claims import SqliteClaimStore
from shifter.adapters.sqlite.database import Database
from shifter.adapters.sqlite.feed import SqliteLaneFeed
from shifter.adapters.sqlite.fleet import SqliteFleetStore, SqlitePresenceStore
from shifter.adapters.sqlite.log import SqliteAtomicLog, SqliteLaneLog
from shifter.adapters.sqlite.mover import SqliteDelayMover
from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.config.endpoint import sqlite_path
from shifter.model.advice import OK, Finding
from shifter.model.lane import Priority, events_topic
from shifter.ports import (
    AtomicLog,
    ClaimStore,
    Clock,
    DelayMover,
    FleetStore,
    LaneFeed,
    LaneLog,
    LogAdmin,
    PresenceStore,
)


class SqliteLogs:
    """`shifter.wiring.registry.LogAdapter` for ``sqlite://``."""

    is_embedded = True

    def import_parts(self) -> None:
        """Do nothing: the import of this module has imported its parts."""

    def import_member(self) -> None:
        """Do nothing: the import of this module has imported its parts."""

    def open_log(self, settings: Settings) -> SqliteLaneLog:
        """Where records become durable; the first record of a topic makes it."""
        return SqliteLaneLog(
            _database("log", settings.log_url),
            SystemClock(),
            max_record_bytes=settings.max_record_bytes,
            new_topic=(1, settings.retention_ms, settings.max_letter_bytes),
            kept_ms={events_topic(settings.namespace): settings.events_retention_ms},
        )

    def open_atomic_log(self, settings: Settings, name: str) -> AtomicLog:
        """Appends in one transaction of the file."""
        return SqliteAtomicLog(self.open_log(settings), name)

    def open_admin(self, settings: Settings) -> LogAdmin:
        """Looks after the topics in the file."""
        database = _database("log", settings.log_url)
        return SqliteLogAdmin(database, SystemClock(), makes_topics=True)

    def open_member(
        self,
        settings: Settings,  # noqa: ARG002  # the protocol's; the log has read them
        log: LaneLog,
    ) -> SqliteMember:
        """The feeds of one worker process, on the connection of its log."""
        return SqliteMember(_sqlite_log(log))

    def is_up(self, settings: Settings) -> bool:  # noqa: ARG002  # the protocol's
        """``True``: a file of this machine has no connection that could be lost."""
        return True

    def check_transport(
        self,
        settings: Settings,  # noqa: ARG002  # the protocol's
    ) -> list[Finding]:
        """Check nothing: no connection leaves this machine."""
        return []

    def path(self, settings: Settings) -> Path | None:
        """The path of the file."""
        url = settings.log_url
        return None if url is None else sqlite_path("log", url.reveal())


class SqliteMember:
    """What the feeds and the mover of one worker process have in common: the log."""

    name = None

    def __init__(self, log: SqliteLaneLog) -> None:
        self._log = log

    def open_feed(
        self,
        priority: Priority,  # noqa: ARG002  # the protocol's; the file has no groups
        topics: Iterable[str],
    ) -> LaneFeed:
        """The lanes of one priority."""
        return SqliteLaneFeed(self._log, sorted(topics), SystemClock())

    def open_mover(self) -> DelayMover:
        """What moves delayed records to their lanes when they are due."""
        return SqliteDelayMover(self._log, SystemClock())


class SqliteStates:
    """`shifter.wiring.registry.StateAdapter` for ``sqlite://``."""

    def import_parts(self) -> None:
        """Do nothing: the import of this module has imported its parts."""

    def open_claims(
        self, settings: Settings, beside: LaneLog | None, *, with_waiting: bool = False
    ) -> ClaimStore:
        """Claims, in the transactions of the log where both are one file."""
        database = _state_database(settings, beside)
        return SqliteClaimStore(
            database, settings.namespace, SystemClock(), finds_waiting=with_waiting
        )

    def open_presence(
        self, settings: Settings, beside: LaneLog | None
    ) -> PresenceStore:
        """Reports of live workers."""
        database = _state_database(settings, beside)
        return SqlitePresenceStore(database, settings.namespace, SystemClock())

    def open_fleet(self, settings: Settings) -> FleetStore:
        """The fleet's shared decisions, in a file beside the state's.

        Every process writes there five times a second; in the log's own file these
        writes would wait for the jobs' and the jobs' for them.
        """
        url = "" if settings.state_url is None else settings.state_url.reveal()
        path = sqlite_path("state", url)
        beside = path.with_name(f"{path.name}.fleet")
        return SqliteFleetStore(beside, settings.namespace, SystemClock())

    async def check_server(
        self,
        settings: Settings,
        clock: Clock,  # noqa: ARG002  # a file has no clock of its own
    ) -> list[Finding]:
        """Whether the file can be read."""
        claims = self.open_claims(settings, None)
        try:
            return [Finding("state", OK, await claims.ping())]
        finally:
            await claims.close()


def _state_database(settings: Settings, beside: LaneLog | None) -> Database:
    if beside is not None and settings.state_url == settings.log_url:
        return _sqlite_log(beside).database.share()
    return _database("state", settings.state_url)


def _database(field: str, url: Secret | None) -> Database:
    return Database(sqlite_path(field, "" if url is None else url.reveal()))


def _sqlite_log(log: LaneLog) -> SqliteLaneLog:
    if not isinstance(log, SqliteLaneLog):
        raise TypeError(log)
    return log
