"""Reads the lanes of a namespace for the whole fleet, in one process at a time.

Each supervisor that serves metrics asks for a lease in the claim store. The one that
holds it reads what waits, every few seconds, and serves it; the others have no series
of lanes. So each lane is counted once, and the cost of reading does not grow with the
fleet. When the holder ends, another one takes over within about ten seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from shifter import wiring
from shifter.config import Settings
from shifter.deadletter.topic_lease import TopicLease, holding
from shifter.errors import HeldElsewhereError, ShifterError
from shifter.model.lane import Lane, Priority
from shifter.ops.scaling import Planner, ScaleGroup
from shifter.ops.status import Overview, StatusSources, open_sources, read_overview
from shifter.ports import ClaimStore, Clock
from shifter.supervise.canary import CanarySender, canary_sender
from shifter.telemetry import Event, FleetMetrics, Log
from shifter.telemetry.series import MAX_SERIES

EVERY_S: Final = 5.0
"""Seconds between two readings, and between two tries to get the lease."""


class LaneGauges:
    """Sets the gauges of all lanes while this process holds the lease.

    Args:
        settings: Name the log and the state store.
        metrics: Where the gauges are.
        clock: Paces the readings.
        planner: Says how many workers each group should have; ``None`` for no such
            gauges.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: FleetMetrics,
        clock: Clock,
        planner: Planner | None = None,
    ) -> None:
        self._settings, self._metrics, self._clock = settings, metrics, clock
        self._planner = planner
        self._log, self._is_failing = Log(), False

    async def run(self) -> None:
        """Read until cancelled; what fails is tried again."""
        claims = wiring.open_claims(self._settings)
        try:
            while True:
                try:
                    await self._hold(claims)
                except HeldElsewhereError:
                    self._is_failing = False
                except Exception as error:  # noqa: BLE001  # no reason to stop work
                    self._failed(str(error) or repr(error))
                finally:
                    self._metrics.clear_lanes()
                await self._clock.sleep(EVERY_S)
        finally:
            with contextlib.suppress(ShifterError):
                await claims.close()

    async def _hold(self, claims: ClaimStore) -> None:
        """Read for as long as the lease is this process's; raises what ends that."""
        settings, clock = self._settings, self._clock
        source, owner = f"{settings.namespace}.lane-gauges", wiring.new_worker_id()
        async with (
            holding(claims, clock, source, owner=owner) as lease,
            open_sources(settings, clock, self._failed) as sources,
            canary_sender(settings, clock) as sender,
        ):
            await self._read(lease, sources, sender)

    async def _read(
        self, lease: TopicLease, sources: StatusSources, sender: CanarySender | None
    ) -> None:
        while lease.is_trusted:
            overview = await read_overview(sources)
            self._is_failing = False
            if lease.is_trusted:
                show(overview, self._metrics)
                # Without the state store there is no rate to count with.
                if self._planner is not None and overview.quality is not None:
                    show_scale(self._planner.plan(overview).groups, self._metrics)
                if sender is not None:
                    await sender.send(_lanes(self._settings.namespace, overview))
            await self._clock.sleep(EVERY_S)

    def _failed(self, detail: str) -> None:
        """Log the first failure of a row of them."""
        if not self._is_failing:
            self._is_failing = True
            self._log.warning(Event.LANES_UNREAD, detail=detail)


def _lanes(namespace: str, overview: Overview) -> list[Lane]:
    rows = overview.lanes[:MAX_SERIES]
    return [Lane(namespace, row.queue, Priority(row.priority)) for row in rows]


def show(overview: Overview, metrics: FleetMetrics) -> None:
    """Set the gauges to what an overview shows; of the lanes the first 1,000."""
    metrics.clear_lanes()
    for lane in overview.lanes[:MAX_SERIES]:
        labels = lane.queue, lane.priority
        readings = {
            metrics.waiting: lane.waiting,
            metrics.due: lane.due,
            metrics.delayed: lane.delayed,
            metrics.oldest_due: lane.oldest_age_s or 0.0,
            metrics.drain_rate: lane.rate_per_s,
            metrics.due_backlog: lane.due_backlog_s,
            metrics.eta: lane.eta_s,
            metrics.tightest_deadline: lane.tightest_deadline_s,
        }
        for gauge, reading in readings.items():
            if reading is not None:
                gauge.of(*labels).set(reading)
    for row in overview.dead_letters[:MAX_SERIES]:
        metrics.dead_letters_open.of(row.queue).set(row.count)


def show_scale(groups: Sequence[ScaleGroup], metrics: FleetMetrics) -> None:
    """Set the gauges of worker groups."""
    for group in groups:
        metrics.scale_workers.of(group.name).set(group.current)
        metrics.scale_desired.of(group.name).set(group.desired)
        metrics.scale_backlog.of(group.name).set(group.due_backlog_s)
