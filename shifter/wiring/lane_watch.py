"""Opens the views of lanes and dependencies that a service's decisions are taken by."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.fleet.events import LoggingObserver
from shifter.fleet.replica import FleetReplica
from shifter.model.job import JobSpec
from shifter.model.lane import Lane, Priority
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.quality import QualityPolicy
from shifter.ports import Clock
from shifter.produce.dependency_watch import DependencyWatch
from shifter.produce.lane_watch import LaneSources, LaneWatch
from shifter.telemetry import Log


def every_lane(namespace: str, queues: Iterable[str]) -> list[str]:
    """Names of all lanes of these queues."""
    return [
        Lane(namespace, queue, priority).name
        for queue in queues
        for priority in Priority
    ]


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
    wiring.import_adapters(settings)
    return LaneWatch(
        lambda: _sources(settings),
        lambda: every_lane(settings.namespace, queues()),
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
) -> DependencyWatch:
    """Keeps a process in step with the fleet, once started.

    Args:
        settings: Name the state store; read on the watch's own thread.
        dependencies: All that were declared.
        uses: What a job calls, if anything.
        clock: Monotonic.
        quality: When load lowers the quality; ``None`` never.
    """
    process = wiring.new_worker_id()
    board = FleetReplica(
        dependencies,
        clock,
        process=process,
        observer=LoggingObserver(Log(process=process)),
        quality=quality,
    )
    return DependencyWatch(board, lambda: wiring.open_fleet(settings()), uses, clock)


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
