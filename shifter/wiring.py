"""The composition root: from settings to running parts.

The only module that knows which adapter serves which URL. Adapters are imported when
they are asked for, so that a program pays only for the vendors it uses.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import uuid_utils

from shifter.adapters.system import SystemClock
from shifter.config import Secret, Settings
from shifter.config.endpoint import sqlite_path
from shifter.config.files import state_folder
from shifter.errors import ConfigError, StoreError
from shifter.model.lane import Lane, dead_letter_topic, delay_topic
from shifter.model.priority import Priority
from shifter.policy.delay import TIERS_S
from shifter.policy.quality import QualityPolicy
from shifter.ports import (
    ClaimStore,
    Clock,
    DelayMover,
    FleetStore,
    LaneFeed,
    LaneLog,
    LogAdmin,
    PresenceStore,
    TopicSpec,
)
from shifter.produce.publisher import Publisher

if TYPE_CHECKING:
    from shifter.adapters.kafka.topic_ids import TopicIds
    from shifter.adapters.kafka.url import KafkaConfig
    from shifter.adapters.sqlite.database import Database
    from shifter.adapters.sqlite.fsck import Checked
    from shifter.adapters.sqlite.log import SqliteLaneLog
    from shifter.adapters.sqlite.spool import SqliteSpool
    from shifter.work.item import Runnable
    from shifter.work.options import WorkOptions
    from shifter.work.worker import WorkerLimits, WorkerParts

_PROBE_S = 2.0
_HEADROOM_BYTES = 100_000
"""What headers, and the diagnostics of a dead letter, add to the largest payload."""


def open_publisher(settings: Settings) -> Publisher:
    """The service side of an app; connects in the background."""
    log = open_log(settings)
    path = spool_path(settings)
    if path is not None:
        log = _before_spool(settings, log, path)
    log.warm_up()
    timeout_s = settings.accept_timeout_ms / 1_000
    return Publisher(log, SystemClock(), timeout_s=timeout_s)


def spool_path(settings: Settings) -> Path | None:
    """Where jobs are kept while the log is away; ``None`` where nothing is."""
    is_kafka = settings.log_url is not None and settings.log_url.reveal().startswith(
        "kafka:"
    )
    if not is_kafka or settings.spool == "off":
        return None
    if settings.spool != "auto":
        return Path(settings.spool)
    return state_folder() / f"{settings.namespace}.spool.db"


def open_spool(settings: Settings, path: Path) -> SqliteSpool:
    """The spool of this machine.

    Raises:
        ConfigError, StoreRefusedError: Its file cannot be used.
    """
    from shifter.adapters.sqlite.database import Database  # noqa: PLC0415
    from shifter.adapters.sqlite.spool import SqliteSpool  # noqa: PLC0415

    return SqliteSpool(
        Database(path), SystemClock(), max_bytes=settings.spool_max_bytes
    )


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
        probe(_kafka(settings), timeout_s=_PROBE_S, clock=SystemClock())
    except StoreError:
        return False
    return True


def _before_spool(settings: Settings, log: LaneLog, path: Path) -> LaneLog:
    from shifter.produce.spooling import SpoolingLog  # noqa: PLC0415

    try:
        spool = open_spool(settings, path)
    except (ConfigError, StoreError):
        # A container without a place to write works as well, without a spool.
        if settings.spool != "auto":
            raise
        return log
    return SpoolingLog(
        log,
        spool,
        clock=SystemClock(),
        is_up=lambda: log_is_up(settings),
    )


def open_log(settings: Settings) -> LaneLog:
    """Where records become durable.

    Raises:
        ConfigError: No log is configured, or its URL is wrong.
    """
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.log import SqliteLaneLog  # noqa: PLC0415

        return SqliteLaneLog(
            _database("log", settings.log_url),
            SystemClock(),
            max_record_bytes=max_record_bytes(settings),
            new_topic=(1, settings.retention_ms, _largest(settings)),
        )
    from shifter.adapters.kafka.writer import KafkaLaneLog  # noqa: PLC0415

    return KafkaLaneLog(
        _kafka(settings),
        namespace=settings.namespace,
        clock=SystemClock(),
        max_record_bytes=max_record_bytes(settings),
    )


def open_topic_ids(settings: Settings) -> TopicIds | None:
    """Tells topics that were made again; one for all feeds of a process."""
    if is_sqlite(settings.log_url):
        return None
    from shifter.adapters.kafka.topic_ids import TopicIds  # noqa: PLC0415

    return TopicIds(_kafka(settings), SystemClock())


def open_feed(
    settings: Settings,
    priority: Priority,
    topics: Iterable[str],
    log: LaneLog,
    ids: TopicIds | None = None,
) -> LaneFeed:
    """The lanes of one priority, as a member of their group."""
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.feed import SqliteLaneFeed  # noqa: PLC0415

        return SqliteLaneFeed(_sqlite_log(log), sorted(topics), SystemClock())
    from shifter.adapters.kafka.feed import KafkaLaneFeed  # noqa: PLC0415

    return KafkaLaneFeed(
        _kafka(settings),
        sorted(topics),
        group=f"{settings.namespace}.workers.{priority.value.lower()}",
        writer=log,
        clock=SystemClock(),
        commit_interval_s=settings.commit_interval_ms / 1_000,
        ids=ids,
    )


def open_mover(
    settings: Settings, log: LaneLog, ids: TopicIds | None = None
) -> DelayMover | None:
    """What moves due records; ``None`` where the log does so by itself."""
    if is_sqlite(settings.log_url):
        return None
    from shifter.adapters.kafka.mover import KafkaDelayMover  # noqa: PLC0415

    config, namespace = _kafka(settings), settings.namespace
    return KafkaDelayMover(config, namespace, log, SystemClock(), ids=ids)


def open_admin(settings: Settings) -> LogAdmin:
    """Looking after the log."""
    if is_sqlite(settings.log_url):
        from shifter.adapters.sqlite.admin import SqliteLogAdmin  # noqa: PLC0415

        return SqliteLogAdmin(_database("log", settings.log_url), makes_topics=True)
    from shifter.adapters.kafka.admin import KafkaLogAdmin  # noqa: PLC0415

    return KafkaLogAdmin(_kafka(settings), settings.namespace)


def open_claims(settings: Settings, beside: LaneLog | None = None) -> ClaimStore:
    """Where "once" is decided.

    Args:
        settings: Name the state store.
        beside: An open log; a state in the same file shares its transactions.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
    """
    if is_sqlite(settings.state_url):
        from shifter.adapters.sqlite.claims import SqliteClaimStore  # noqa: PLC0415

        database = _state_database(settings, beside)
        return SqliteClaimStore(database, settings.namespace, SystemClock())
    from shifter.adapters.redis.claims import RedisClaimStore  # noqa: PLC0415
    from shifter.adapters.redis.client import open_redis  # noqa: PLC0415

    client = open_redis(
        _state_url(settings), timeout_s=settings.claim_timeout_ms / 1_000
    )
    return RedisClaimStore(client, settings.namespace)


def open_presence(settings: Settings, beside: LaneLog | None = None) -> PresenceStore:
    """Where workers say that they live; arguments as of `open_claims`."""
    if is_sqlite(settings.state_url):
        from shifter.adapters.sqlite.presence import (  # noqa: PLC0415
            SqlitePresenceStore,
        )

        database = _state_database(settings, beside)
        return SqlitePresenceStore(database, settings.namespace, SystemClock())
    from shifter.adapters.redis.client import open_redis  # noqa: PLC0415
    from shifter.adapters.redis.presence import RedisPresenceStore  # noqa: PLC0415

    client = open_redis(_state_url(settings), timeout_s=1.0)
    return RedisPresenceStore(client, settings.namespace)


def open_fleet(settings: Settings) -> FleetStore:
    """Where a fleet decides together."""
    if is_sqlite(settings.state_url):
        from shifter.adapters.sqlite.fleet import SqliteFleetStore  # noqa: PLC0415

        url = "" if settings.state_url is None else settings.state_url.reveal()
        path = sqlite_path("state", url)
        beside = path.with_name(f"{path.name}.fleet")
        return SqliteFleetStore(beside, settings.namespace, SystemClock())
    from shifter.adapters.redis.client import open_redis  # noqa: PLC0415
    from shifter.adapters.redis.fleet import RedisFleetStore  # noqa: PLC0415

    client = open_redis(_state_url(settings), timeout_s=1.0)
    return RedisFleetStore(client, settings.namespace)


def max_record_bytes(settings: Settings) -> int:
    """The largest record a lane takes, with room for a dead letter's headers."""
    return settings.max_payload_bytes + _HEADROOM_BYTES


def topic_specs(settings: Settings, queues: Iterable[str]) -> list[TopicSpec]:
    """Every topic an app with these queues needs."""
    from shifter.deadletter.journal import letter_specs  # noqa: PLC0415

    namespace = settings.namespace
    names = [
        Lane(namespace, queue, priority).name
        for queue in sorted(queues)
        for priority in Priority
    ]
    letters = [dead_letter_topic(namespace, queue) for queue in sorted(queues)]
    is_embedded = is_sqlite(settings.log_url)
    if not is_embedded:
        names += [delay_topic(namespace, tier_s) for tier_s in TIERS_S]
    partitions = 1 if is_embedded else settings.partitions
    limits = partitions, settings.retention_ms, _largest(settings)
    found = [TopicSpec(name, *limits) for name in names + letters]
    return found + letter_specs(namespace, letters, limits[-1])


def _largest(settings: Settings) -> int:
    # Twice the headroom: a dead letter is larger than its source.
    return max_record_bytes(settings) + _HEADROOM_BYTES


def lanes_served(
    namespace: str, queues: Iterable[str], options: WorkOptions
) -> dict[str, Lane]:
    """The lanes a worker drains, by topic.

    Raises:
        ConfigError: A queue is asked for that no job of the app uses.
    """
    known = sorted(queues)
    for queue in options.queues:
        if queue not in known:
            raise ConfigError("--queue", queue, f"queues of the app: {known}")
    lanes = [
        Lane(namespace, queue, priority)
        for queue in options.queues or known
        for priority in Priority
        if options.serves(priority)
    ]
    return {lane.name: lane for lane in lanes}


def new_worker_id() -> str:
    """Unique per process and start, readable in a log."""
    return f"{socket.gethostname()}-{os.getpid()}-{str(uuid_utils.uuid4())[:8]}"


def open_worker(
    settings: Settings,
    jobs: Mapping[str, Runnable],
    lanes: Mapping[str, Lane],
    options: WorkOptions,
    spawn: Callable[[], tuple[BaseProcess, Connection]],
    quality: QualityPolicy | None = None,
) -> tuple[WorkerParts, WorkerLimits]:
    """Everything one worker process owns."""
    from shifter.fleet.board import FleetBoard  # noqa: PLC0415
    from shifter.telemetry import Metrics  # noqa: PLC0415
    from shifter.work.isolated import IsolatedProcesses  # noqa: PLC0415
    from shifter.work.ledger import Ledger  # noqa: PLC0415
    from shifter.work.parts import DrainParts  # noqa: PLC0415
    from shifter.work.worker import WorkerLimits, WorkerParts  # noqa: PLC0415

    worker_id, clock = new_worker_id(), SystemClock()
    log = open_log(settings)
    log.warm_up()
    ids = open_topic_ids(settings)
    by_priority: dict[Priority, list[str]] = {}
    for topic, lane in lanes.items():
        by_priority.setdefault(lane.priority, []).append(topic)
    size = min(options.concurrency, os.cpu_count() or 1)
    drain = DrainParts(
        feeds={
            priority: open_feed(settings, priority, topics, log, ids)
            for priority, topics in by_priority.items()
        },
        lanes=lanes,
        jobs=jobs,
        claims=open_claims(settings, log),
        clock=clock,
        processes=IsolatedProcesses(spawn, size=size),
        ledger=(ledger := Ledger(Metrics(), clock, worker=worker_id)),
        board=FleetBoard(
            [job.dependency for job in jobs.values() if job.dependency is not None],
            clock,
            process=worker_id,
            changed=ledger.circuit_changed,
            quality=quality,
        ),
    )
    limits = WorkerLimits(
        worker_id=worker_id,
        concurrency=options.concurrency,
        lease_ms=settings.lease_ms,
        drain_timeout_s=settings.drain_timeout_ms / 1_000,
    )
    presence = open_presence(settings, log)
    mover, fleet = open_mover(settings, log, ids), open_fleet(settings)
    return WorkerParts(drain, log, mover, presence, fleet), limits


def _kafka(settings: Settings) -> KafkaConfig:
    from shifter.adapters.kafka.url import KafkaConfig  # noqa: PLC0415

    return KafkaConfig.from_client(settings.kafka_client())


def is_sqlite(url: Secret | None) -> bool:
    """Whether a URL names a file on this machine."""
    return url is not None and url.reveal().startswith("sqlite:")


def _database(field: str, url: Secret | None) -> Database:
    from shifter.adapters.sqlite.database import Database  # noqa: PLC0415

    return Database(sqlite_path(field, "" if url is None else url.reveal()))


def _state_database(settings: Settings, beside: LaneLog | None) -> Database:
    if beside is not None and settings.state_url == settings.log_url:
        return _sqlite_log(beside).database.share()
    return _database("state", settings.state_url)


def _sqlite_log(log: LaneLog) -> SqliteLaneLog:
    from shifter.adapters.sqlite.log import SqliteLaneLog  # noqa: PLC0415

    if not isinstance(log, SqliteLaneLog):
        raise TypeError(log)
    return log


def _state_url(settings: Settings) -> str:
    if settings.state_url is None:
        raise ConfigError("state", None, "set SHIFTER_STATE to redis://host:port/0")
    return settings.state_url.reveal()
