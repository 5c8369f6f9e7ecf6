"""``shifter window list|open-now|close-now|auto``: hours, and who set them aside."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from shifter import wiring
from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.cli.circuit import look_at
from shifter.cli.columns import WINDOWS, window_cells
from shifter.cli.consent import who
from shifter.cli.output import note, write_json, write_table
from shifter.cli.session import InSession, need_state
from shifter.config import Settings
from shifter.fleet.hours import hours_scope, job_scope, queue_scope, window_cell
from shifter.fleet.overrides import set_by_hand
from shifter.fleet.shared_state import OverrideCell
from shifter.fleet.view import WindowRow
from shifter.model.duration import duration_ms
from shifter.model.lane import parse_lane
from shifter.model.priority import Priority
from shifter.policy.schedule.calendar import next_opening_ms

_LEAST_MS: Final = 1_000


def list_(
    target: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show what somebody set, and with an app the windows that it declares.

    Args:
        target: MODULE:APP, such as shop.jobs:app, for declared windows too.
        json: One JSON array.
        session: This command line.
    """
    declared: list[WindowRow] = []
    if target is not None:
        app = session.app(target)
        declared, settings = declared_windows(app), app.settings
    else:
        settings = session.settings()
    rows = [*declared, *asyncio.run(look_at(need_state(settings))).windows]
    if json:
        write_json(msgspec.to_builtins(rows))
    else:
        write_table(WINDOWS, window_cells(rows), empty="nothing is set by hand")


def open_now(  # one parameter an option
    queue: str | None = None,
    /,
    *,
    priority: Priority | None = None,
    job: str | None = None,
    reason: str,
    for_: str = "1h",
    session: InSession,
) -> None:
    """Let jobs start now, whatever their windows say.

    Args:
        queue: Whose jobs.
        priority: Of that lane of the queue only.
        job: Instead of a queue: one type of job.
        reason: Why, for those who look later.
        for_: How long; then the windows count again.
        session: This command line.
    """
    _set(session, hours_scope(queue, priority, job), "open", (reason, for_))


def close_now(  # one parameter an option
    queue: str | None = None,
    /,
    *,
    priority: Priority | None = None,
    job: str | None = None,
    reason: str,
    for_: str = "1h",
    session: InSession,
) -> None:
    """Start no more of these jobs, whatever their windows say.

    Args:
        queue: Whose jobs.
        priority: Of that lane of the queue only.
        job: Instead of a queue: one type of job.
        reason: Why, for those who look later.
        for_: How long; then the windows count again.
        session: This command line.
    """
    _set(session, hours_scope(queue, priority, job), "closed", (reason, for_))


def auto(
    queue: str | None = None,
    /,
    *,
    priority: Priority | None = None,
    job: str | None = None,
    session: InSession,
) -> None:
    """Let the windows count again.

    Args:
        queue: As it was set.
        priority: As it was set.
        job: As it was set.
        session: This command line.
    """
    settings, scope = need_state(session.settings()), hours_scope(queue, priority, job)
    asyncio.run(_apply(settings, scope, None))
    note(f"{scope}: its windows count")


def _set(session: InSession, scope: str, to: str, why: tuple[str, str]) -> None:
    settings, (reason, for_) = need_state(session.settings()), why
    until_ms = duration_ms("--for", for_, minimum_ms=_LEAST_MS)
    setting = msgspec.convert(
        {"to": to, "owner": who(), "reason": reason, "until_ms": until_ms}, OverrideCell
    )
    asyncio.run(_apply(settings, scope, setting))
    note(f"{scope}: {to} for {for_}, by {setting.owner}: {reason}")


def declared_windows(app: Shifter) -> list[WindowRow]:
    """The windows that an app declares, of jobs and of lanes, as they are now."""
    found = {job_scope(job.spec.name): job.spec.windows for job in app.jobs.values()}
    for name, rule in app.hours.rules.items():
        if (lane := parse_lane(name)) is not None:
            found[queue_scope(lane.queue, lane.priority)] = rule.windows
    now, rows = SystemClock().epoch_ms(), list[WindowRow]()
    for scope, windows in sorted(found.items()):
        opens_ms = next_opening_ms(windows, now)
        opens_s = (opens_ms - now) / 1_000 if opens_ms > now else None
        texts = [window.text for window in windows]
        if texts:
            rows.append(WindowRow(scope, opens_s is None, texts, opens_s, None))
    return rows


async def _apply(settings: Settings, scope: str, setting: OverrideCell | None) -> None:
    store = wiring.open_fleet(settings)
    try:
        await set_by_hand(store, wiring.new_worker_id(), window_cell(scope), setting)
    finally:
        await store.close()
