"""The service's side: a publisher, its spool, and the views it decides by."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import ConfigError, StoreError
from shifter.fleet.replica import FleetReplica
from shifter.model.job import JobSpec
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.quality import QualityPolicy
from shifter.ports import Clock, LaneLog
from shifter.produce.job_states import JobStates, StoredJobStates
from shifter.produce.observer import ServiceObserver
from shifter.produce.publisher import Publisher
from shifter.produce.watch import DependencyWatch, LaneSources, LaneWatch
from shifter.telemetry import Log, Tracing
from shifter.wiring.checks import background_of
from shifter.wiring.registry import log_adapter, state_adapter

if TYPE_CHECKING:
    from shifter.produce.job_events import PublisherEvents


def open_publisher(
    settings: Settings, observer: ServiceObserver, tracing: Tracing
) -> Publisher:
    """The service side of an app; connects in the background.

    Args:
        settings: Name the log and the state store.
        observer: Counts the appends.
        tracing: How they are traced.
    """
    log, clock = wiring.open_log(settings), SystemClock()
    # Beside the spool: an event that the log does not take is lost.
    events = _events(settings, log, observer)
    path = wiring.spool_path(settings)
    if path is not None:
        log = _before_spool(settings, log, path, observer)
    log.warm_up()
    return Publisher(
        log,
        clock,
        timeout_s=settings.accept_timeout_ms / 1_000,
        states=_job_states(settings, log),
        finds_plain=wiring.finds_waiting(settings),
        appended=observer.appended,
        spans=wiring.spans_of(settings, tracing),
        events=events,
    )


def _events(
    settings: Settings, log: LaneLog, observer: ServiceObserver
) -> PublisherEvents | None:
    name, counted = wiring.new_worker_id(), observer.events_counted
    stream = wiring.open_events(settings, log, name, counted)
    if stream is None:
        return None
    from shifter.produce.job_events import PublisherEvents  # noqa: PLC0415
    from shifter.telemetry.job_events import ServiceEvents  # noqa: PLC0415

    # Not in its thread: see `import_adapters`.
    prepare = log_adapter(settings).import_parts
    return PublisherEvents(ServiceEvents(stream, prepare), SystemClock())


def import_adapters(settings: Settings) -> None:
    """Import what a service's background threads use, in the calling thread.

    A fork in the middle of another thread's import leaves the child with a module that
    it can neither use nor import again.
    """
    # Python's own, by the first look-up of a host and the first read of a script.
    import encodings.idna  # noqa: F401, PLC0415
    import importlib.readers  # noqa: F401, PLC0415

    log_adapter(settings).import_parts()
    state_adapter(settings).import_parts()


def _before_spool(
    settings: Settings, log: LaneLog, path: Path, observer: ServiceObserver
) -> LaneLog:
    from shifter.produce.spooling import SpoolingLog  # noqa: PLC0415

    try:
        spool = wiring.open_spool(settings, path)
    except (ConfigError, StoreError):
        # A container whose disk is read-only works as well, without a spool.
        if settings.spool != "auto":
            raise
        return log
    spooling = SpoolingLog(
        log,
        spool,
        clock=SystemClock(),
        is_up=lambda: log_adapter(settings).is_up(settings),
    )
    observer.spool = spooling.read_spool
    return spooling


def _job_states(settings: Settings, log: LaneLog) -> JobStates | None:
    """What records accepted jobs and is asked about keys; ``None`` without a state."""
    if settings.state_url is None:
        return None
    # Not in its thread: see `import_adapters`.
    prepare = state_adapter(settings).import_parts
    if is_recording := wiring.records_waiting(settings):
        prepare()
    return StoredJobStates(
        lambda: wiring.open_claims(settings, log),
        SystemClock(),
        is_recording=is_recording,
        prepare=prepare,
    )


def lane_watch(
    settings: Settings, queues: Callable[[], Iterable[str]]
) -> LaneWatch | None:
    """Looks at the lanes of queues, once started.

    Args:
        settings: Name the log and the state store.
        queues: Asked before each look; there may be more of them by then.

    Returns:
        ``None`` without a log or a state store.
    """
    if settings.log_url is None or settings.state_url is None:
        return None
    import_adapters(settings)
    return LaneWatch(
        lambda: _sources(settings),
        lambda: wiring.every_lane(settings.namespace, queues()),
        SystemClock(),
    )


@contextlib.asynccontextmanager
async def _sources(settings: Settings) -> AsyncGenerator[LaneSources]:
    # Where the second cannot be opened, the first is closed: a watch tries both again
    # each second, and an admin of Kafka has threads.
    async with contextlib.AsyncExitStack() as held:
        admin = wiring.open_admin(settings)
        held.push_async_callback(admin.close)
        presence = wiring.open_presence(settings)
        held.push_async_callback(presence.close)
        yield LaneSources(admin, presence)


def dependency_watch(
    settings: Callable[[], Settings],
    dependencies: Iterable[Dependency],
    uses: Callable[[JobSpec], Dependency | None],
    clock: Clock,
    *,
    quality: QualityPolicy | None,
    observer: ServiceObserver,
) -> DependencyWatch:
    """Keeps a process in step with the fleet, once started.

    Args:
        settings: Name the state store; read on the watch's own thread.
        dependencies: All that were declared.
        uses: What a job calls, if anything.
        clock: Monotonic.
        quality: When load lowers the quality; ``None`` never.
        observer: What counts calls and changes.
    """
    process = wiring.new_worker_id()
    observer.log = Log(process=process)
    replica = FleetReplica(
        dependencies,
        clock,
        process=process,
        observer=observer,
        quality=quality,
    )
    watch = DependencyWatch(replica, lambda: wiring.open_fleet(settings()), uses, clock)
    watch.held_back = observer.held_back
    watch.background += background_of(replica)
    return watch


async def look_once(settings: Settings, queues: Iterable[str]) -> LaneWatch | None:
    """The lanes of queues as they are now; arguments as of `lane_watch`.

    Raises:
        StoreError: The log or the state store does not answer.
    """
    known = list(queues)
    watch = lane_watch(settings, lambda: known)
    if watch is None:
        return None
    async with _sources(settings) as sources:
        await watch.look(sources)
    return watch
