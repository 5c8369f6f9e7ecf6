"""A tiny job through each lane, by choice: does a job still get through, and how soon?

The supervisor that holds the lease of the lanes submits it, and the worker that runs it
measures the time since. A canary is a job like any other: it takes a slot, a claim and
a place in the counts of its lane. One that no worker runs in time expires.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from shifter import wiring
from shifter.config import Settings
from shifter.errors import OutcomeUnknownError
from shifter.jobs.context import Context
from shifter.model.job import JobSpec
from shifter.model.lane import Lane, Priority
from shifter.policy.protection.dependency import Dependency
from shifter.ports import Clock, LaneLog
from shifter.produce.options import CallOptions, plan_call
from shifter.produce.publisher import Publisher
from shifter.runtime.threads import in_thread
from shifter.telemetry import WorkerMetrics
from shifter.wire.payload import PayloadCodec

NAME: Final = "shifter.canary"
_CLOSE_S: Final = 5.0
_SPEC: Final = JobSpec(name=NAME, attempts=1, inline=False, keep_status_ms=60_000)


@dataclass(kw_only=True)
class Canary:
    """The handler of canaries; a `shifter.jobs.registered.RegisteredJob`.

    Attributes:
        clock: Measures how long a canary was under way.
        metrics: Where that goes; ``None`` while no worker runs it.
        codec: Reads and writes the arguments.
    """

    clock: Clock
    metrics: WorkerMetrics | None = None
    spec: JobSpec = _SPEC
    context_parameter: str | None = None
    cheaper: Callable[..., Any] | None = None
    dependency: Dependency | None = None

    def __post_init__(self) -> None:
        self.codec = PayloadCodec(self.function, name=NAME, context_type=Context)

    async def function(self, queue: str, priority: Priority, sent_ms: int) -> None:
        """Note that a canary has come through its lane."""
        if self.metrics is not None:
            took_s = max(0, self.clock.epoch_ms() - sent_ms) / 1_000
            series = self.metrics.canary.of(queue, priority.value)
            series.observe_many([took_s])


class CanarySender:
    """Submits canaries, one to each lane at an interval.

    Args:
        settings: Name the log, and the interval.
        clock: Dates the canaries.
        log: Where they are written.
    """

    def __init__(self, settings: Settings, clock: Clock, log: LaneLog) -> None:
        self._settings, self._clock = settings, clock
        timeout_s = settings.accept_timeout_ms / 1_000
        self._publisher = Publisher(log, clock, timeout_s=timeout_s)
        self._codec = Canary(clock=clock).codec
        self._next_at: float = clock.monotonic()

    async def send(self, lanes: Iterable[Lane]) -> None:
        """Submit one to each lane, if the interval has passed since the last time."""
        now, every_s = self._clock.monotonic(), self._settings.canary_ms / 1_000
        if now < self._next_at:
            return
        self._next_at = now + every_s
        for lane in lanes:
            options = CallOptions(priority=lane.priority, deadline=every_s)
            spec = replace(_SPEC, queue=lane.queue)
            plan = plan_call(lane.namespace, spec, options)
            call = (lane.queue, lane.priority, self._clock.epoch_ms())
            payload = self._codec.encode(call, {})
            # One that is not written is one that does not come through.
            with contextlib.suppress(OutcomeUnknownError):
                await self._publisher.defer(plan, payload, self._codec.content_type)


@contextlib.asynccontextmanager
async def canary_sender(
    settings: Settings, clock: Clock
) -> AsyncGenerator[CanarySender | None]:
    """Yield a `CanarySender`, or ``None`` where no canaries are wanted."""
    if not settings.canary_ms:
        yield None
        return
    log = wiring.open_log(settings)
    try:
        yield CanarySender(settings, clock, log)
    finally:
        await in_thread(log.close, timeout_s=_CLOSE_S)
