"""Jobs that fire by the clock, once for the whole fleet.

Every worker process fires every cron job: a single process elected for it could die
a moment before. All processes write the same job, whose id is made of namespace,
job and instant, and whose idempotency key is made of the instant. So the claim store
lets one of them take effect, for the job's dedup window. An instant at which no worker
runs is skipped.

Clocks differ, and people set them. All processes use the state store's clock; a process
uses its own until the store has answered. An instant is due when it lies between two
readings of that clock, so a clock that was set back only starts a new interval: a job
that was fired while the clock was ahead has the same id when its time comes. Without
the store's clock the record carries its due time, so that a worker with a right clock
does not start a job that a clock ahead of time has fired.

Operators pause a cron job, and ask for a run at once, by the state that the fleet
shares (`shifter.fleet.cron_state`). A firing is skipped if its instant lies before the
end of the pause. Each process that reads an asked run writes the same job, and the
first one that has written it removes the run.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from shifter.errors import OutcomeUnknownError
from shifter.fleet.cron_state import CronFiring, CronRun, CronState
from shifter.jobs.registered import RegisteredJob
from shifter.jobs.schedule import next_firing_ms
from shifter.model.answer import Deferred
from shifter.model.time import EpochMs
from shifter.ports import Clock, sleep_or_wake
from shifter.produce.options import CallOptions, plan_call
from shifter.produce.publisher import Publisher

_NAMES: Final = uuid.UUID("6f3d6f0e-6d2f-5a3c-9d4f-3c1a0f7f5b11")
_TRIES: Final = 30
_AGAIN_S: Final = 1.0
_LOOK_S: Final = 30.0
"""Longest sleep, so that a wall clock that is set meanwhile is noticed."""


def firing_id(namespace: str, job: str, at_ms: EpochMs) -> str:
    """The id of a job that fires at an instant, the same in every process.

    Args:
        namespace: The app's namespace.
        job: The job's name.
        at_ms: The instant at which it fires.
    """
    return str(uuid.uuid5(_NAMES, f"{namespace}:{job}:{at_ms}"))


class _Look(NamedTuple):
    """A reading of a clock, and whether it is the state store's clock."""

    at_ms: EpochMs
    is_stores: bool


class CronSchedule:
    """Fires the jobs of an app that have a cron expression.

    Args:
        namespace: Namespace of the app.
        jobs: Registered jobs, by name.
        publisher: Writes the jobs.
        clock: Wall time of this process; paces the waiting.
        store_ms: Wall clock of the state store, epoch milliseconds; ``None`` as long as
            the store has not answered.
        shared: What the fleet shares of its cron jobs.
    """

    def __init__(
        self,
        namespace: str,
        jobs: Mapping[str, RegisteredJob],
        publisher: Publisher,
        clock: Clock,
        store_ms: Callable[[], EpochMs | None] = lambda: None,
        shared: CronState | None = None,
    ) -> None:
        self._namespace, self._publisher, self._clock = namespace, publisher, clock
        self._store_ms = store_ms
        self._jobs = jobs
        self._crons = {
            name: job.spec.cron
            for name, job in jobs.items()
            if job.spec.cron is not None
        }
        self._looked = self._look()
        self._shared = CronState() if shared is None else shared
        self._is_asked = asyncio.Event()
        self._shared.asked = self._is_asked.set

    async def run(self) -> None:
        """Fire until cancelled; return at once if no job has a cron expression."""
        self._looked = self._look()
        while self._crons:
            looked_ms = self._looked.at_ms
            next_ms = min(next_firing_ms(c, looked_ms) for c in self._crons.values())
            wait_s = (next_ms - self._look().at_ms) / 1_000
            wait_s = min(max(0.0, wait_s), _LOOK_S)
            await sleep_or_wake(self._clock, wait_s, self._is_asked)
            self._is_asked.clear()
            await self.fire()

    async def fire(self) -> None:
        """Fire the jobs that became due since the last reading of the clock.

        Also write the runs that operators asked for.
        """
        before, self._looked = self._looked, self._look()
        for name, run in self._shared.take_runs().items():
            if name in self._crons:
                await self._run(name, run)
        if before.is_stores != self._looked.is_stores:
            # Two clocks have no interval between them.
            return
        for name, cron in self._crons.items():
            # After a machine slept, several instants may be due: only the first fires.
            at_ms = next_firing_ms(cron, before.at_ms)
            is_due = at_ms <= self._looked.at_ms
            if is_due and not self._shared.is_paused(name, at_ms):
                await self._fire(name, at_ms)

    async def _fire(self, name: str, at_ms: EpochMs) -> None:
        job_id = firing_id(self._namespace, name, at_ms)
        due_ms = None if self._looked.is_stores else at_ms
        if await self._write(name, job_id, f"cron:{at_ms}", due_ms):
            self._shared.fired(name, CronFiring(at_ms, job_id))

    async def _run(self, name: str, run: CronRun) -> None:
        if await self._write(name, run.job_id, f"cron:{run.job_id}", None):
            self._shared.wrote(run)
            at_ms = self._looked.at_ms
            self._shared.fired(name, CronFiring(at_ms, run.job_id, run.owner))

    def _look(self) -> _Look:
        store_ms = self._store_ms()
        if store_ms is None:
            return _Look(self._clock.epoch_ms(), is_stores=False)
        return _Look(store_ms, is_stores=True)

    async def _write(
        self, name: str, job_id: str, key: str, due_ms: EpochMs | None
    ) -> bool:
        """Write a job, whatever it takes; returns whether the log has it."""
        job = self._jobs[name]
        options = CallOptions(idempotency_key=key, job_id=job_id)
        plan = plan_call(self._namespace, job.spec, options)
        if due_ms is not None:
            plan = plan._replace(due_ms=due_ms)
        payload, content_type = job.codec.encode((), {}), job.codec.content_type
        for _ in range(_TRIES):
            try:
                answer = await self._publisher.defer(plan, payload, content_type)
            except OutcomeUnknownError:
                continue
            if isinstance(answer, Deferred):
                return True
            if answer.retry_after_s is None:
                return False
            await self._clock.sleep(_AGAIN_S)
        return False
