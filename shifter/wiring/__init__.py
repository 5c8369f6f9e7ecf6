"""The composition root: opens log, shared state and spool, from settings.

A program names neither a vendor nor a scheme: `shifter.wiring.registry` finds the
adapter of each URL. Adapters are imported when a part of them is opened, so that a
program imports only the vendor libraries that it uses.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uuid_utils

from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.config.load import state_folder
from shifter.model.advice import Finding
from shifter.model.lane import (
    Lane,
    Priority,
    dead_letter_topic,
    delay_topic,
    events_topic,
)
from shifter.policy.delivery.delay import TIERS_S
from shifter.ports import (
    AtomicLog,
    ClaimStore,
    Clock,
    FleetStore,
    LaneLog,
    LogAdmin,
    PresenceStore,
    TopicSpec,
)
from shifter.telemetry import Tracing
from shifter.telemetry.tracing import Spans
from shifter.wiring.registry import log_adapter, state_adapter

if TYPE_CHECKING:
    from shifter.adapters.sqlite.fsck import Checked
    from shifter.adapters.sqlite.spool import SqliteSpool
    from shifter.telemetry.job_events import JobEventStream


_EVENT_BYTES: Final = 1_000_000
"""Largest record of the topic of events, four times as large as one that is written."""


def is_embedded(settings: Settings) -> bool:
    """Whether the log is a file of this machine; ``False`` without a log."""
    return settings.log_url is not None and log_adapter(settings).is_embedded


def open_log(settings: Settings) -> LaneLog:
    """Where records become durable.

    Raises:
        ConfigError: No log is configured, or its URL is wrong.
    """
    return log_adapter(settings).open_log(settings)


def spans_of(
    settings: Settings, tracing: Tracing, *, worker: str | None = None
) -> Spans:
    """The spans of a process with this log.

    Args:
        settings: Name the log.
        tracing: How the app traces.
        worker: The id of a worker process; ``None`` for a service.
    """
    url = settings.log_url
    system = "none" if url is None else url.reveal().partition(":")[0]
    fixed = None if worker is None else {"messaging.client.id": worker}
    return Spans(tracing, system=system, fixed=fixed)


def open_atomic_log(settings: Settings, name: str) -> AtomicLog:
    """Where a sender's records become durable together, or not at all.

    Args:
        settings: Name the log.
        name: The sender's name in the namespace; one process at a time sends as it.

    Raises:
        ConfigError: The client library refuses a setting.
    """
    return log_adapter(settings).open_atomic_log(
        settings, f"{settings.namespace}.{name}"
    )


def open_admin(settings: Settings) -> LogAdmin:
    """Looks after the topics of the log.

    Raises:
        ConfigError: No log is configured, or its URL is wrong.
    """
    return log_adapter(settings).open_admin(settings)


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
    """The file of an embedded log; ``None`` where the log is no file."""
    return None if settings.log_url is None else log_adapter(settings).path(settings)


def check_file(path: Path, clock: Clock) -> Checked:
    """Read every record of a log's or spool's file; damaged ones are set aside.

    Raises:
        ConfigError, StoreRefusedError, StoreUnavailableError: It cannot be checked.
    """
    from shifter.adapters.sqlite.fsck import check  # noqa: PLC0415

    return check(path, clock)


def finds_waiting(settings: Settings) -> bool:
    """Whether the states of jobs that wait are found in the log, in the same file."""
    return is_embedded(settings) and settings.log_url == settings.state_url


def records_waiting(settings: Settings) -> bool:
    """Whether services record the jobs that wait and are not found in the log."""
    return settings.state_url is not None and settings.waiting_states == "on"


def open_claims(
    settings: Settings,
    beside: LaneLog | None = None,
    *,
    with_waiting: bool = False,
) -> ClaimStore:
    """The claim store, which decides that a job takes effect once.

    Args:
        settings: Name the state store.
        beside: An open log; a state in the same file shares its transactions.
        with_waiting: Whether `ClaimStore.status` also finds jobs that wait in the log
            and were never claimed, where the log is in the same file.

    Raises:
        ConfigError: No state store is configured, or its URL is wrong.
    """
    return state_adapter(settings).open_claims(
        settings, beside, with_waiting=with_waiting and finds_waiting(settings)
    )


def open_events(
    settings: Settings, log: LaneLog, process: str, counted: Callable[[str, int], None]
) -> JobEventStream | None:
    """Where one process records what happens to jobs; ``None`` with ``events=none``.

    Args:
        settings: Name the topic, and which jobs are recorded.
        log: An open log, which events share; a spool keeps no events.
        process: The name of the process in the events.
        counted: Called with ``written`` or ``lost``, and how many events.
    """
    if settings.events == "none":
        return None
    from shifter.telemetry.job_events import JobEventStream  # noqa: PLC0415

    return JobEventStream(
        log,
        SystemClock(),
        topic=events_topic(settings.namespace),
        process=process,
        counted=counted,
        is_all=settings.events == "all",
    )


def open_presence(settings: Settings, beside: LaneLog | None = None) -> PresenceStore:
    """The reports of live workers; arguments and errors are those of `open_claims`."""
    return state_adapter(settings).open_presence(settings, beside)


def open_fleet(settings: Settings) -> FleetStore:
    """The fleet's shared decisions; errors are those of `open_claims`."""
    return state_adapter(settings).open_fleet(settings)


def new_worker_id() -> str:
    """Unique per process and start, readable in a log."""
    return f"{socket.gethostname()}-{os.getpid()}-{str(uuid_utils.uuid4())[:8]}"


def spool_path(settings: Settings) -> Path | None:
    """The file that keeps jobs while the log is away; ``None`` where none does."""
    if settings.log_url is None or is_embedded(settings) or settings.spool == "off":
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


def every_lane(namespace: str, queues: Iterable[str]) -> list[str]:
    """Names of all lanes of these queues."""
    return [
        Lane(namespace, queue, priority).name
        for queue in queues
        for priority in Priority
    ]


def topic_specs(settings: Settings, queues: Iterable[str]) -> list[TopicSpec]:
    """Every topic an app with these queues needs."""
    from shifter.deadletter.journal import letter_specs  # noqa: PLC0415

    namespace = settings.namespace
    queues = sorted(queues)
    names = every_lane(namespace, queues)
    letters = [dead_letter_topic(namespace, queue) for queue in queues]
    partitions = settings.partitions
    if is_embedded(settings):
        partitions = 1
    else:
        names += [delay_topic(namespace, tier_s) for tier_s in TIERS_S]
    limits = partitions, settings.retention_ms, settings.max_letter_bytes
    found = [TopicSpec(name, *limits) for name in names + letters]
    found += letter_specs(namespace, letters, limits[-1])
    return found if settings.events == "none" else [*found, events_spec(settings)]


def events_spec(settings: Settings) -> TopicSpec:
    """The topic of events, which keeps them for a day by default."""
    return TopicSpec(
        events_topic(settings.namespace),
        1 if is_embedded(settings) else settings.partitions,
        settings.events_retention_ms,
        _EVENT_BYTES,
    )


def check_clients() -> list[Finding]:
    """Whether the client libraries of this process are new enough."""
    from shifter.adapters.kafka.opening import check_client  # noqa: PLC0415
    from shifter.adapters.sqlite.admin import check_library  # noqa: PLC0415

    return [check_client(), check_library()]
