"""What a worker process reports about itself, once a second.

To its supervisor it sends heartbeats. They are datagrams, sent without waiting: a
suspended supervisor must not delay the work, and a lost heartbeat is followed by
another one. To the fleet it reports its presence, by the state store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

import msgspec

from shifter.errors import StoreError
from shifter.model.fleet import MAX_RATE
from shifter.policy.health import WorkProgress
from shifter.policy.protection.fleet_pace import presence_every_s, presence_keep_ms
from shifter.ports import PresenceStore, SlowestJob, WorkerReport
from shifter.runtime.heartbeat_socket import LARGEST_BYTES
from shifter.telemetry import Event, Snapshot
from shifter.wire.untrusted import MAX_SHORT
from shifter.work.drain import Drain
from shifter.work.usage import UsageMeter
from shifter.work.worker_readings import LagTimer, read_worker

_EVERY_S: Final = 1.0
"""Seconds between two heartbeats to the supervisor."""
_CRONS_BYTES: Final = 16_000
"""Of the cron jobs in a worker's report; further ones are left out."""

_PARTITIONS_BYTES: Final = 16_000
"""Of the partitions in a worker's report; further lanes are left out."""


class Heartbeat(msgspec.Struct, array_like=True):
    """One beat.

    Attributes:
        pid: Of the process.
        progress: What it does, and since when something has not proceeded.
        metrics: All readings of its metrics.
        refusal: Why the claim store refuses to write; empty while it does not.
    """

    pid: int
    progress: WorkProgress
    metrics: Snapshot
    refusal: str = ""


def newest_heartbeat(channel: socket.socket) -> Heartbeat | None:
    """The newest heartbeat that arrived; ``None`` if none did."""
    newest: bytes | None = None
    with contextlib.suppress(BlockingIOError):
        while True:
            newest = channel.recv(LARGEST_BYTES)
            if not newest:
                return None
    return None if newest is None else msgspec.msgpack.decode(newest, type=Heartbeat)


@contextlib.asynccontextmanager
async def beating(
    channel: socket.socket | None, drain: Drain, is_ready: Callable[[], bool]
) -> AsyncGenerator[None]:
    """Report to the supervisor while the block runs, and at its end.

    Without the last heartbeat, what the worker did since the one before would be
    counted nowhere.

    Args:
        channel: The socket to the supervisor; ``None`` without a supervisor.
        drain: What is reported.
        is_ready: Whether the process has joined and may claim.
    """
    if channel is None:
        yield
        return

    lag = LagTimer()

    async def beat() -> None:
        while True:
            _beat(channel, drain, lag, is_ready=is_ready())
            await drain.clock.sleep(_EVERY_S)

    # No task group: what the block raises must leave it as it is.
    task = asyncio.get_running_loop().create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        _beat(channel, drain, lag, is_ready=is_ready())
        lag.stop()


def _beat(
    channel: socket.socket, drain: Drain, lag: LagTimer, *, is_ready: bool
) -> None:
    now, observer, running = drain.clock.monotonic(), drain.observer, drain.running
    overdue_s = [attempt.overdue_s(now) for attempt in drain.progress().attempts]
    observer.fold()
    observer.running(running, drain.state.limits.bytes)
    read_worker(drain, lag_s=lag.take_s())
    progress = WorkProgress(
        is_ready,
        drain.unpolled_s,
        drain.unsettled_s,
        sum(running.values()),
        max(overdue_s, default=0.0),
    )
    metrics, refusal = observer.metrics.snapshot(), drain.state.claiming.refusal
    heartbeat = Heartbeat(os.getpid(), progress, metrics, refusal)
    # The buffer is full, or the supervisor is gone: the next one repeats all of it.
    with contextlib.suppress(OSError):
        channel.send(msgspec.msgpack.encode(heartbeat), socket.MSG_DONTWAIT)


class Versions(NamedTuple):
    """What runs in a worker process.

    Attributes:
        shifter: The release of this package; ``None`` if it is not installed.
        app: The version of the app, as its settings have it.
    """

    shifter: str | None = None
    app: str | None = None


_UNKNOWN_VERSIONS: Final = Versions()


async def report_presence(
    store: PresenceStore, drain: Drain, versions: Versions = _UNKNOWN_VERSIONS
) -> None:
    """Report until cancelled; while the store is away the last report fades."""
    clock, observer = drain.clock, drain.observer
    started_ms, ended, progress_ms = clock.epoch_ms(), 0, None
    crons = _crons(drain)
    uses = {
        name: job.dependency.name
        for name, job in drain.jobs.items()
        if job.dependency is not None
    }
    lanes, usage = drain.lanes.values(), UsageMeter(drain)
    while True:
        observer.fold()
        rates = observer.rates(clock.monotonic())
        if observer.ended_total != ended:
            ended, progress_ms = observer.ended_total, clock.epoch_ms()
        report = WorkerReport(
            worker_id=drain.owner,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ms=started_ms,
            reported_ms=clock.epoch_ms(),
            concurrency=drain.concurrency,
            running=dict(drain.running),
            rate_per_s=rates,
            uses=uses,
            queues=sorted({lane.queue for lane in lanes}),
            priorities=sorted({lane.priority.value for lane in lanes}),
            busy=usage.read(),
            start_up_ms=observer.start_up_ms,
            version=versions.shifter,
            app_version=versions.app,
            slowest=_slowest(drain),
            progress_ms=progress_ms,
            is_draining=drain.is_stopping,
            crons=crons,
            partitions=_partitions(drain),
        )
        try:
            keep_ms = presence_keep_ms(drain.replica.processes)
            await store.report(report, keep_ms=keep_ms)
        except StoreError as error:
            observer.worker(Event.PRESENCE_UNAVAILABLE, detail=str(error))
        await clock.sleep(presence_every_s(drain.replica.processes))


def _crons(drain: Drain) -> dict[str, str]:
    """The cron expressions of jobs, by job; a store takes reports of 64 KiB."""
    specs = (job.spec for job in drain.jobs.values())
    found = {spec.name: spec.cron for spec in specs if spec.cron is not None}
    kept, size = dict[str, str](), 0
    for name, cron in sorted(found.items()):
        size += len(msgspec.json.encode((name, cron)))
        if size > _CRONS_BYTES:
            break
        if max(len(name), len(cron)) <= MAX_SHORT:
            kept[name] = cron
    return kept


def _partitions(drain: Drain) -> dict[str, list[int]]:
    """The partitions that this worker reads, by lane, of so many lanes as fit."""
    kept, size = dict[str, list[int]](), 0
    for feed in drain.feeds.values():
        for topic, partitions in feed.partitions().items():
            size += len(msgspec.json.encode((topic, partitions)))
            if size > _PARTITIONS_BYTES:
                return kept
            kept[topic] = partitions
    return kept


def _slowest(drain: Drain) -> SlowestJob | None:
    """The attempt that has run longest; ``None`` while none runs."""
    attempts = drain.progress().attempts
    if not attempts:
        return None
    attempt = min(attempts, key=lambda one: one.started_at)
    envelope, now = attempt.item.envelope, drain.clock.monotonic()
    running_s = round(max(0.0, now - attempt.started_at), 3)
    # An id and a type come with the record: foreign ones may be long.
    return SlowestJob(
        envelope.id[:MAX_SHORT], envelope.type[:MAX_SHORT], min(running_s, MAX_RATE)
    )
