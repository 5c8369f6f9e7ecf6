"""Cron jobs of a fleet: when each fired last and fires next; pause, resume, run now.

Which cron jobs there are is what live workers report, and what an app at hand declares.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from shifter import wiring
from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.errors import AlreadyAskedError, NotTakenError, UnknownNameError
from shifter.fleet.cron_state import (
    LAST_CELLS,
    PAUSE_CELLS,
    CronFiring,
    CronRun,
    encode_cron,
    last_cell,
    pause_cell,
    read_firing,
    read_pause,
    read_run,
    run_cell,
)
from shifter.fleet.view import OverrideRow, cells_of, change_cells
from shifter.jobs.schedule import next_firing_ms
from shifter.model.advice import listed
from shifter.model.fleet import Proposal
from shifter.model.time import EpochMs
from shifter.ops.overrides import (
    Override,
    OverrideTarget,
    clear_override,
    opened_fleet,
    set_override,
)
from shifter.ops.workers import read_workers
from shifter.ports import Clock, FleetStore, WorkerReport
from shifter.wire.job_event import shown_text
from shifter.wire.untrusted import MAX_SHORT

TAKE_S: Final = 15.0
"""Seconds that a worker has to write an asked run; most do it within two."""
_LOOK_S: Final = 0.2
_ROWS_MOST: Final = 1_000
"""Cron jobs that are shown; what workers report is not trusted."""


class CronRow(msgspec.Struct, frozen=True):
    """One cron job.

    Attributes:
        name: Of the job.
        schedule: Its cron expression; ``None`` where no live worker reports it and no
            app at hand declares it.
        tz: Time zone of the expression.
        workers: Live workers that fire it.
        next_ms: When it fires next, epoch milliseconds by the store's clock, also
            after a pause; ``None`` if no worker fires it.
        last_ms: When it fired last; ``None`` if that is not known.
        last_job_id: Id of the job that was written then.
        last_by: Who asked for that run; ``None`` where the clock fired it.
        outcome: State of that job; ``None`` if nothing is recorded of it any more.
        paused: The pause, while it lasts.
    """

    name: str
    schedule: str | None
    tz: str
    workers: int
    next_ms: int | None
    last_ms: int | None
    last_job_id: str | None
    last_by: str | None
    outcome: str | None
    paused: OverrideRow | None


class _Known(NamedTuple):
    """Everything that rows are made of.

    Attributes:
        schedules: Cron expressions by job, of live workers and of the app.
        workers: Live workers that fire a job.
        cells: Shared state of the fleet.
        now_ms: The store's clock.
    """

    schedules: Mapping[str, str]
    workers: Mapping[str, int]
    cells: Mapping[str, bytes]
    now_ms: int

    def names(self) -> list[str]:
        """Jobs that are reported, declared, paused, or have fired."""
        found = set(self.schedules)
        for cell, text in self.cells.items():
            if cell.startswith(PAUSE_CELLS) and read_pause(text, self.now_ms):
                found.add(cell.removeprefix(PAUSE_CELLS))
            elif cell.startswith(LAST_CELLS) and read_firing(text, self.now_ms):
                found.add(cell.removeprefix(LAST_CELLS))
        return sorted(found)[:_ROWS_MOST]


def declared_crons(app: Shifter) -> dict[str, str]:
    """The cron expressions of an app's jobs, by job."""
    specs = (job.spec for job in app.jobs.values())
    return {spec.name: spec.cron for spec in specs if spec.cron is not None}


async def read_crons(
    settings: Settings, declared: Mapping[str, str] | None = None
) -> list[CronRow]:
    """The cron jobs of a fleet, by name.

    Args:
        settings: Name the state store.
        declared: Cron expressions of an app at hand, by job; shown also without a live
            worker.

    Raises:
        StoreError: The state store does not answer.
    """
    known = await _known(settings, declared or {})
    firings = {
        name: read_firing(known.cells.get(last_cell(name), b""), known.now_ms)
        for name in known.names()
    }
    outcomes = await _outcomes(settings, [one for one in firings.values() if one])
    return [_row(known, name, firing, outcomes) for name, firing in firings.items()]


async def pause_cron(
    settings: Settings,
    name: str,
    override: Override,
    declared: Mapping[str, str] | None = None,
) -> None:
    """Let a cron job not fire for a while; a run that is asked for still runs.

    Args:
        settings: Name the state store.
        name: Of the job.
        override: ``pause``, its owner, its reason and its time.
        declared: As of `read_crons`.

    Raises:
        UnknownNameError: There is no such cron job.
        StoreError: The state store does not answer.
    """
    await _check_name(settings, name, declared or {})
    await set_override(settings, _target(name), override)


async def resume_cron(
    settings: Settings, name: str, declared: Mapping[str, str] | None = None
) -> None:
    """End a pause; where there is none, nothing changes.

    Raises:
        UnknownNameError: There is no such cron job.
        StoreError: The state store does not answer.
    """
    await _check_name(settings, name, declared or {})
    await clear_override(settings, _target(name))


async def run_cron(
    settings: Settings, name: str, *, owner: str, reason: str, clock: Clock
) -> str:
    """Let the fleet run a cron job once, now, also while it is paused.

    Args:
        settings: Name the state store.
        name: Of the job.
        owner: Who asks for it.
        reason: Why.
        clock: Paces the looks for a worker that took it.

    Returns:
        The id of the job, which a worker has written.

    Raises:
        UnknownNameError: No live worker fires such a job.
        AlreadyAskedError: Another operator has asked for it a moment ago.
        NotTakenError: No worker took it in time.
        StoreError: The state store does not answer.
    """
    known = await _known(settings, {})
    if name not in known.workers or len(name) > MAX_SHORT:
        want = listed(known.workers, "cron jobs of live workers")
        raise UnknownNameError("cron job", name, want)
    job_id, cell = str(uuid.uuid4()), run_cell(name)
    texts: list[bytes] = []

    def ask(cells: dict[str, bytes], now_ms: int) -> list[Proposal]:
        text = cells.get(cell, b"")
        asked = read_run(text, now_ms)
        if asked is not None:
            if text in texts:
                return []
            raise AlreadyAskedError(f"a run of {name}", owner=asked.owner)
        until_ms = now_ms + int(TAKE_S * 1_000)
        run = CronRun(job_id, shown_text(owner), shown_text(reason), until_ms)
        texts.append(encode_cron(run))
        return [Proposal(cell, text, texts[-1])]

    process = wiring.new_worker_id()
    async with opened_fleet(settings) as store:
        await change_cells(store, process, ask)
        until = clock.monotonic() + TAKE_S
        while clock.monotonic() < until:
            cells, _ = await cells_of(store, process)
            if cells.get(cell, b"") not in texts:
                return job_id
            await clock.sleep(_LOOK_S)
        if await _take_back(store, process, cell, texts):
            detail = f"if one does so after all, its job is {job_id}"
            raise NotTakenError(f"a run of {name}", waited_s=TAKE_S, detail=detail)
    return job_id


async def _take_back(
    store: FleetStore, process: str, cell: str, texts: list[bytes]
) -> bool:
    """Remove a run that no worker has removed; returns whether it was there."""
    is_there = False

    def remove(cells: dict[str, bytes], _: int) -> list[Proposal]:
        nonlocal is_there
        text = cells.get(cell, b"")
        if text not in texts:
            return []
        is_there = True
        return [Proposal(cell, text, b"")]

    await change_cells(store, process, remove)
    return is_there


async def _known(settings: Settings, declared: Mapping[str, str]) -> _Known:
    workers = await read_workers(settings)
    async with opened_fleet(settings) as store:
        cells, now_ms = await cells_of(store, wiring.new_worker_id())
    schedules, counts = dict(declared), dict[str, int]()
    for worker in _newest_last(workers):
        schedules |= worker.crons
        for name in worker.crons:
            counts[name] = counts.get(name, 0) + 1
    return _Known(schedules, counts, cells, now_ms)


def _newest_last(workers: list[WorkerReport]) -> list[WorkerReport]:
    # During a deploy two schedules of a job are reported: that of the newest counts.
    return sorted(workers, key=lambda worker: worker.started_ms)


async def _check_name(
    settings: Settings, name: str, declared: Mapping[str, str]
) -> None:
    names = (await _known(settings, declared)).names()
    if name not in names or len(name) > MAX_SHORT:
        raise UnknownNameError("cron job", name, listed(names, "cron jobs"))


def _target(name: str) -> OverrideTarget:
    return OverrideTarget(name, "cron job", pause_cell(name), ("pause",))


async def _outcomes(settings: Settings, firings: list[CronFiring]) -> dict[str, str]:
    """The states of jobs, by id, as far as they are recorded."""
    if not firings:
        return {}
    claims = wiring.open_claims(settings)
    try:
        found = [await claims.status(firing.job_id) for firing in firings]
    finally:
        await claims.close()
    return {one.job_id: one.state.value for one in found if one is not None}


def _row(
    known: _Known, name: str, firing: CronFiring | None, outcomes: Mapping[str, str]
) -> CronRow:
    pause = read_pause(known.cells.get(pause_cell(name), b""), known.now_ms)
    paused, from_ms = None, known.now_ms
    if pause is not None:
        left_s = (pause.until_ms - known.now_ms) / 1_000
        paused = OverrideRow(pause.to, pause.owner, pause.reason, left_s)
        # The first instant at which it fires again is that of the end.
        from_ms = pause.until_ms - 1
    schedule, workers = known.schedules.get(name), known.workers.get(name, 0)
    return CronRow(
        name=name,
        schedule=schedule,
        tz="UTC",
        workers=workers,
        next_ms=_next_ms(schedule, from_ms) if workers else None,
        last_ms=None if firing is None else firing.at_ms,
        last_job_id=None if firing is None else firing.job_id,
        last_by=None if firing is None else firing.owner or None,
        outcome=None if firing is None else outcomes.get(firing.job_id),
        paused=paused,
    )


def _next_ms(schedule: str | None, from_ms: int) -> int | None:
    if schedule is None:
        return None
    try:
        return next_firing_ms(schedule, EpochMs(from_ms))
    except (ValueError, OverflowError):
        # A worker's report is not trusted.
        return None
