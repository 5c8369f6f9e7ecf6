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
from shifter.telemetry import Tracing
from shifter.wiring import (
    new_worker_id,
    open_claims,
    open_events,
    open_fleet,
    open_log,
    open_presence,
    spans_of,
)
from shifter.wiring.registry import log_adapter, state_adapter

if TYPE_CHECKING:
    from shifter.fleet.hours import Hours
    from shifter.jobs.registered import RegisteredJob
    from shifter.work.worker import Worker, WorkOptions


def lanes_served(
    namespace: str, queues: Iterable[str], options: WorkOptions
) -> dict[str, Lane]:
    """The lanes a worker drains, by topic.

    Args:
        namespace: The app's namespace.
        queues: The queues that jobs of the app use.
        options: Which queues and priorities the worker serves.

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
        hours: Execution windows; ``None``: those that the jobs declare.
        tracing: How its jobs are traced.
    """

    dependencies: Sequence[Dependency] = ()
    quality: QualityPolicy | None = None
    hours: Hours | None = None
    tracing: Tracing = Tracing()


def import_worker(settings: Settings) -> None:
    """Import what `open_worker` uses, so that it takes less time later.

    Raises:
        ConfigError: No log or no state store is configured.
    """
    import shifter.wiring.checks  # noqa: PLC0415
    import shifter.work.worker  # noqa: F401, PLC0415

    log_adapter(settings).import_member()
    state_adapter(settings).import_parts()


def open_worker(
    settings: Settings,
    jobs: Mapping[str, RegisteredJob],
    lanes: Mapping[str, Lane],
    options: WorkOptions,
    spawn: Callable[[], tuple[BaseProcess, Connection]],
    fleet: FleetTerms,
) -> Worker:
    """Open everything that one worker process owns.

    Args:
        settings: Name the servers.
        jobs: Registered jobs, by name.
        lanes: Lanes served, by topic.
        options: Of the command.
        spawn: Starts a child process for isolated jobs.
        fleet: What the app declares about its fleet.

    Returns:
        The worker, to be run; `shifter.work.worker.Worker.run` closes what it owns.
    """
    from shifter.fleet.replica import FleetReplica  # noqa: PLC0415
    from shifter.telemetry import WorkerMetrics  # noqa: PLC0415
    from shifter.wiring.checks import background_of  # noqa: PLC0415
    from shifter.work.drain import Drain  # noqa: PLC0415
    from shifter.work.isolated import IsolatedProcesses  # noqa: PLC0415
    from shifter.work.job_events import WorkerEvents  # noqa: PLC0415
    from shifter.work.job_observer import JobObserver  # noqa: PLC0415
    from shifter.work.worker import Worker  # noqa: PLC0415

    worker_id, clock = new_worker_id(), SystemClock()
    log = open_log(settings)
    log.warm_up()
    member = log_adapter(settings).open_member(settings, log)
    by_priority: dict[Priority, list[str]] = {}
    for topic, lane in lanes.items():
        by_priority.setdefault(lane.priority, []).append(topic)
    size = min(options.concurrency, os.cpu_count() or 1)
    weights = settings.queue_weights
    metrics = WorkerMetrics()
    stream = open_events(
        settings, log, worker_id, lambda of, count: metrics.job_events.of(of).inc(count)
    )
    observer = JobObserver(
        metrics,
        clock,
        worker=worker_id,
        log_done=settings.log_done,
        events=None if stream is None else WorkerEvents(stream, clock),
    )
    replica = FleetReplica(
        fleet.dependencies,
        clock,
        process=worker_id,
        observer=observer,
        quality=fleet.quality,
    )
    presence = open_presence(settings, log)
    drain = Drain(
        owner=worker_id,
        concurrency=options.concurrency,
        lease_ms=settings.lease_ms,
        feeds={
            priority: member.open_feed(priority, topics)
            for priority, topics in by_priority.items()
        },
        lanes=lanes,
        jobs=jobs,
        claims=open_claims(settings, log),
        clock=clock,
        observer=observer,
        replica=replica,
        spans=spans_of(settings, fleet.tracing, worker=worker_id),
        processes=IsolatedProcesses(spawn, size=size),
        hours=fleet.hours,
        mover=member.open_mover(),
        grace_ms=settings.deploy_grace_ms,
        waiting_bytes=settings.waiting_bytes,
        # Workers that share a file fetch what they have slots for.
        reports=None if log_adapter(settings).is_embedded else presence.workers,
        pace=settings.pace,
        choice=LaneChoicePolicy(
            lane_weights={
                topic: weights[lane.queue]
                for topic, lane in lanes.items()
                if lane.queue in weights
            }
        ),
    )
    return Worker(
        drain=drain,
        log=log,
        presence=presence,
        fleet=open_fleet(settings),
        open_claims=lambda: open_claims(settings),
        drain_timeout_s=settings.drain_timeout_ms / 1_000,
        name=member.name,
        background=background_of(replica),
    )
