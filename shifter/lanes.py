"""Opens the view of lanes that a service's decisions are taken by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.model.lane import Lane
from shifter.model.priority import Priority
from shifter.produce.lane_watch import LaneWatch, Sources


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
    return LaneWatch(
        lambda: Sources(wiring.open_admin(settings), wiring.open_presence(settings)),
        lambda: every_lane(settings.namespace, queues()),
        SystemClock(),
    )


async def look_once(settings: Settings, queues: Iterable[str]) -> LaneWatch | None:
    """The lanes of queues as they are now; arguments as of `lane_watch`.

    Raises:
        StoreError: The log or the state store does not answer.
    """
    known = list(queues)
    watch = lane_watch(settings, lambda: known)
    if watch is None:
        return None
    admin = wiring.open_admin(settings)
    try:
        presence = wiring.open_presence(settings)
        try:
            await watch.look(Sources(admin, presence))
        finally:
            await presence.close()
    finally:
        await admin.close()
    return watch
