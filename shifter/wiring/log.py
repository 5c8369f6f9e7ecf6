"""Which log serves which URL: writing, reading, moving and looking after it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.config.endpoint import sqlite_path
from shifter.errors import StoreError
from shifter.model.priority import Priority
from shifter.ports import AtomicLog, Clock, DelayMover, LaneFeed, LaneLog, LogAdmin
from shifter.wiring.files import is_sqlite, kafka_config, open_database, sqlite_log
from shifter.wiring.topics import largest_record_bytes, max_record_bytes

if TYPE_CHECKING:
    from shifter.adapters.kafka.member_name import MemberName
    from shifter.adapters.kafka.topic_ids import TopicIds
    from shifter.adapters.kafka.url import KafkaConfig
    from shifter.adapters.sqlite.fsck import Checked

_PROBE_S = 2.0


def open_log(settings: Settings) -> LaneLog:
    """Where records become durable.

    Raises:
        ConfigError: No log is configured, or its URL is wrong.
    """
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.log import SqliteLaneLog  # noqa: PLC0415

        return SqliteLaneLog(
            open_database("log", settings.log_url),
            SystemClock(),
            max_record_bytes=max_record_bytes(settings),
            new_topic=(1, settings.retention_ms, largest_record_bytes(settings)),
        )
    from shifter.adapters.kafka.writer import KafkaLaneLog  # noqa: PLC0415

    return KafkaLaneLog(
        kafka_config(settings),
        namespace=settings.namespace,
        clock=SystemClock(),
        max_record_bytes=max_record_bytes(settings),
    )


def open_atomic_log(settings: Settings, name: str) -> AtomicLog:
    """Where a sender's records become durable together, or not at all.

    Args:
        settings: Name the log.
        name: The sender's, in the namespace.

    Raises:
        ConfigError: The client library refuses a setting.
    """
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.atomic import SqliteAtomicLog  # noqa: PLC0415

        log = sqlite_log(open_log(settings))
        return SqliteAtomicLog(log, f"{settings.namespace}.{name}")
    from shifter.adapters.kafka.atomic import KafkaAtomicLog  # noqa: PLC0415

    return KafkaAtomicLog(
        kafka_config(settings),
        f"{settings.namespace}.{name}",
        SystemClock(),
        max_record_bytes=largest_record_bytes(settings),
    )


class Membership(NamedTuple):
    """What all members of groups in one process have in common.

    Attributes:
        ids: Tells topics that were made again.
        name: Which members of this process have; ``None`` for none.
    """

    ids: TopicIds | None = None
    name: MemberName | None = None

    def config(self, settings: Settings) -> KafkaConfig:
        """Properties of their client library."""
        config = kafka_config(settings)
        return config if self.name is None else config.named(self.name.text)


def open_membership(settings: Settings) -> Membership:
    """For all feeds of a worker process, and its mover."""
    if is_sqlite(settings.log_url):
        return Membership()
    from shifter.adapters.kafka.member_name import claim_name  # noqa: PLC0415

    return Membership(open_topic_ids(settings), claim_name(settings.namespace))


def open_topic_ids(settings: Settings) -> TopicIds | None:
    """Tells topics that were made again; one for all feeds of a process."""
    if is_sqlite(settings.log_url):
        return None
    from shifter.adapters.kafka.topic_ids import TopicIds  # noqa: PLC0415

    return TopicIds(kafka_config(settings), SystemClock())


def open_feed(
    settings: Settings,
    priority: Priority,
    topics: Iterable[str],
    log: LaneLog,
    member: Membership,
) -> LaneFeed:
    """The lanes of one priority, as a member of their group."""
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.feed import SqliteLaneFeed  # noqa: PLC0415

        return SqliteLaneFeed(sqlite_log(log), sorted(topics), SystemClock())
    from shifter.adapters.kafka.feed import KafkaLaneFeed  # noqa: PLC0415

    return KafkaLaneFeed(
        member.config(settings),
        sorted(topics),
        group=f"{settings.namespace}.workers.{priority.value.lower()}",
        writer=log,
        clock=SystemClock(),
        commit_interval_s=settings.commit_interval_ms / 1_000,
        ids=member.ids,
        without_commits=settings.without_commits,
    )


def open_mover(settings: Settings, log: LaneLog, member: Membership) -> DelayMover:
    """What moves delayed records that the log does not move by itself."""
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.mover import SqliteDelayMover  # noqa: PLC0415

        return SqliteDelayMover(sqlite_log(log), SystemClock())
    from shifter.adapters.kafka.mover import KafkaDelayMover  # noqa: PLC0415

    return KafkaDelayMover(
        member.config(settings),
        settings.namespace,
        log,
        SystemClock(),
        ids=member.ids,
        without_commits=settings.without_commits,
    )


def open_admin(settings: Settings) -> LogAdmin:
    """Looking after the log."""
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.admin import SqliteLogAdmin  # noqa: PLC0415

        return SqliteLogAdmin(open_database("log", settings.log_url), makes_topics=True)
    from shifter.adapters.kafka.admin import KafkaLogAdmin  # noqa: PLC0415

    return KafkaLogAdmin(kafka_config(settings), settings.namespace)


@contextlib.asynccontextmanager
async def opened_admin(settings: Settings) -> AsyncGenerator[LogAdmin]:
    """The admin of a log that answers, closed at the end.

    The first call is a ping: it reports a wrong password or certificate within seconds,
    where any other call waits for its whole timeout and reports only that.

    Raises:
        StoreUnavailableError, StoreRefusedError: With what the client reported last.
    """
    admin = open_admin(settings)
    try:
        await admin.ping()
        yield admin
    finally:
        await admin.close()


def log_path(settings: Settings) -> Path | None:
    """The file of an embedded log; ``None`` where the log is none."""
    url = settings.log_url
    if url is None or not is_sqlite(url):
        return None
    return sqlite_path("log", url.reveal())


def check_file(path: Path, clock: Clock) -> Checked:
    """Read every record of a log's or spool's file; damaged ones are set aside.

    Raises:
        ConfigError, StoreRefusedError, StoreUnavailableError: It cannot be checked.
    """
    from shifter.adapters.sqlite.fsck import check  # noqa: PLC0415

    return check(path, clock)


def log_is_up(settings: Settings) -> bool:
    """Whether Kafka answers; blocks for a second or two."""
    from shifter.adapters.kafka.probe import probe  # noqa: PLC0415

    try:
        probe(kafka_config(settings), timeout_s=_PROBE_S, clock=SystemClock())
    except StoreError:
        return False
    return True
