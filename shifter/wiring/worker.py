"""The worker's side: the lanes it serves, and everything one process owns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, NamedTuple

from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.model.lane import Lane, Priority
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.quality import QualityPolicy
from shifter.policy.schedule.lane_choice import LaneChoicePolicy
from shifter.wiring import (
    new_worker_id,
    open_claims,
    open_fleet,
    open_log,
    open_presence,
)
from shifter.wiring.registry import log_adapter

if TYPE_CHECKING:
    from shifter.jobs.registered import RegisteredJob
    from shifter.work.options import WorkOptions
    from shifter.work.worker import WorkerLimits, WorkerParts


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


class FleetTerms(NamedTuple):
    """What an app declares about its fleet.

    Attributes:
        dependencies: All of them; handlers may call any.
        quality: When load lowers the quality; ``None`` never.
    """

    dependencies: Sequence[Dependency] = ()
    quality: QualityPolicy | None = None


def open_worker(
    settings: Settings,
    jobs: Mapping[str, RegisteredJob],
    lanes: Mapping[str, Lane],
    options: WorkOptions,
    spawn: Callable[[], tuple[BaseProcess, Connection]],
    fleet: FleetTerms,
) -> tuple[WorkerParts, WorkerLimits]:
    """Everything one worker process owns."""
    from shifter.fleet.replica import FleetReplica  # noqa: PLC0415
    from shifter.telemetry import Metrics  # noqa: PLC0415
    from shifter.work.isolated import IsolatedProcesses  # noqa: PLC0415
    from shifter.work.job_observer import JobObserver  # noqa: PLC0415
    from shifter.work.parts import DrainParts  # noqa: PLC0415
    from shifter.work.worker import WorkerLimits, WorkerParts  # noqa: PLC0415

    worker_id, clock = new_worker_id(), SystemClock()
    log = open_log(settings)
    log.warm_up()
    member = log_adapter(settings).open_member(settings, log)
    by_priority: dict[Priority, list[str]] = {}
    for topic, lane in lanes.items():
        by_priority.setdefault(lane.priority, []).append(topic)
    size = min(options.concurrency, os.cpu_count() or 1)
    drain = DrainParts(
        feeds={
            priority: member.open_feed(priority, topics)
            for priority, topics in by_priority.items()
        },
        lanes=lanes,
        jobs=jobs,
        claims=open_claims(settings, log),
        clock=clock,
        grace_ms=settings.deploy_grace_ms,
        processes=IsolatedProcesses(spawn, size=size),
        waiting_bytes=settings.waiting_bytes,
        choice=LaneChoicePolicy(
            lane_weights={
                topic: settings.queue_weights[lane.queue]
                for topic, lane in lanes.items()
                if lane.queue in settings.queue_weights
            }
        ),
        observer=(observer := JobObserver(Metrics(), clock, worker=worker_id)),
        board=FleetReplica(
            fleet.dependencies,
            clock,
            process=worker_id,
            observer=observer,
            quality=fleet.quality,
        ),
    )
    limits = WorkerLimits(
        worker_id=worker_id,
        concurrency=options.concurrency,
        lease_ms=settings.lease_ms,
        drain_timeout_s=settings.drain_timeout_ms / 1_000,
    )
    presence = open_presence(settings, log)
    mover, store = member.open_mover(), open_fleet(settings)
    parts = WorkerParts(drain, log, mover, presence, store, name=member.name)
    return parts, limits
