"""Jobs that fire by the clock, once for the whole fleet.

Every worker process fires every one of them: whoever would be chosen to do it alone
could die a moment before. All write the same job: its id is made of namespace, job and
instant, and its idempotency key of the instant, so that the claim store lets one of
them take effect, for the job's dedup window. An instant at which no worker lives is
not made up for.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final

from shifter.cron import next_firing_ms
from shifter.errors import OutcomeUnknownError
from shifter.model.answer import Deferred
from shifter.model.time import EpochMs
from shifter.ports import Clock
from shifter.produce.options import CallOptions, plan_call
from shifter.produce.publisher import Publisher
from shifter.work.item import Runnable

_NAMES: Final = uuid.UUID("6f3d6f0e-6d2f-5a3c-9d4f-3c1a0f7f5b11")
_TRIES: Final = 30
_AGAIN_S: Final = 1.0
_LOOK_S: Final = 30.0
"""Longest sleep: a wall clock that was set is noticed."""


def firing_id(namespace: str, job: str, at_ms: EpochMs) -> str:
    """The id of a job that fires at an instant, the same in every process."""
    return str(uuid.uuid5(_NAMES, f"{namespace}:{job}:{at_ms}"))


class Timetable:
    """Fires the jobs of an app that have a cron expression.

    Args:
        namespace: Of the app.
        jobs: Registered jobs, by name.
        publisher: Writes them.
        clock: Wall time.
    """

    def __init__(
        self,
        namespace: str,
        jobs: Mapping[str, Runnable],
        publisher: Publisher,
        clock: Clock,
    ) -> None:
        self._namespace, self._publisher, self._clock = namespace, publisher, clock
        now = clock.epoch_ms()
        self._jobs = {n: job for n, job in jobs.items() if job.spec.cron is not None}
        self._next = {name: self._after(name, now) for name in self._jobs}

    async def run(self) -> None:
        """Fire until cancelled; returns at once where nothing fires."""
        while self._next:
            wait_s = (min(self._next.values()) - self._clock.epoch_ms()) / 1_000
            await self._clock.sleep(min(max(0.0, wait_s), _LOOK_S))
            await self.fire()

    async def fire(self) -> None:
        """Fire what is due."""
        now = self._clock.epoch_ms()
        for name, at_ms in self._next.items():
            if at_ms <= now:
                # An instant long gone, after a machine slept, fires once.
                self._next[name] = self._after(name, now)
                await self._write(name, at_ms)

    async def _write(self, name: str, at_ms: EpochMs) -> None:
        job = self._jobs[name]
        options = CallOptions(
            idempotency_key=f"cron:{at_ms}",
            job_id=firing_id(self._namespace, name, at_ms),
        )
        plan = plan_call(self._namespace, job.spec, options)
        payload, content_type = job.codec.encode((), {}), job.codec.content_type
        for _ in range(_TRIES):
            try:
                answer = await self._publisher.defer(plan, payload, content_type)
            except OutcomeUnknownError:
                continue
            if isinstance(answer, Deferred) or answer.retry_after_s is None:
                return
            await self._clock.sleep(_AGAIN_S)

    def _after(self, name: str, now: EpochMs) -> EpochMs:
        expression = self._jobs[name].spec.cron
        if expression is None:
            raise ValueError(name)
        return next_firing_ms(expression, now)
