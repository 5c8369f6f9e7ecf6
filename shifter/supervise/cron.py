"""Jobs that fire by the clock, once for the whole fleet.

Every worker process fires every one of them: a process that was chosen to do it alone
could die a moment before. All write the same job: its id is made of namespace, job and
instant, and its idempotency key of the instant, so that the claim store lets one of
them take effect, for the job's dedup window. An instant at which no worker lives is
not made up for.

Clocks differ and are set. The clock that counts is the state store's, which all
processes share; a process goes by its own until the store has answered. An instant is
due when it lies between two looks at that clock, so a clock that was set back only
starts a new interval: what was fired while it was ahead has the same id when its time
really comes. Without the store's clock the record says when it is due, so that a worker
whose clock is right does not start what a clock that is ahead has fired.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from shifter.errors import OutcomeUnknownError
from shifter.jobs.cron import next_firing_ms
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


class _Look(NamedTuple):
    """What a clock showed, and whose it is."""

    at_ms: EpochMs
    is_stores: bool


class CronSchedule:
    """Fires the jobs of an app that have a cron expression.

    Args:
        namespace: Of the app.
        jobs: Registered jobs, by name.
        publisher: Writes them.
        clock: Wall time of this process; waits.
        store_ms: Wall clock of the state store, epoch milliseconds; ``None`` as long as
            the store has not answered.
    """

    def __init__(
        self,
        namespace: str,
        jobs: Mapping[str, Runnable],
        publisher: Publisher,
        clock: Clock,
        store_ms: Callable[[], EpochMs | None] = lambda: None,
    ) -> None:
        self._namespace, self._publisher, self._clock = namespace, publisher, clock
        self._store_ms = store_ms
        self._jobs = {n: job for n, job in jobs.items() if job.spec.cron is not None}
        self._looked = self._look()

    async def run(self) -> None:
        """Fire until cancelled; returns at once where nothing fires."""
        self._looked = self._look()
        while self._jobs:
            next_ms = min(self._after(name, self._looked.at_ms) for name in self._jobs)
            wait_s = (next_ms - self._look().at_ms) / 1_000
            await self._clock.sleep(min(max(0.0, wait_s), _LOOK_S))
            await self.fire()

    async def fire(self) -> None:
        """Fire what became due since the last look."""
        before, self._looked = self._looked, self._look()
        if before.is_stores != self._looked.is_stores:
            # Two clocks have no interval between them.
            return
        for name in self._jobs:
            # Of several instants, after a machine slept, the first fires.
            at_ms = self._after(name, before.at_ms)
            if at_ms <= self._looked.at_ms:
                await self._write(name, at_ms)

    def _look(self) -> _Look:
        store_ms = self._store_ms()
        if store_ms is None:
            return _Look(self._clock.epoch_ms(), is_stores=False)
        return _Look(store_ms, is_stores=True)

    async def _write(self, name: str, at_ms: EpochMs) -> None:
        job = self._jobs[name]
        options = CallOptions(
            idempotency_key=f"cron:{at_ms}",
            job_id=firing_id(self._namespace, name, at_ms),
        )
        plan = plan_call(self._namespace, job.spec, options)
        if not self._looked.is_stores:
            plan = plan._replace(due_ms=at_ms)
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
