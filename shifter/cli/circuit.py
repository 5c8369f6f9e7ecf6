"""``shifter circuit list|open|close|auto``: what jobs call, and whether they may."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from shifter import wiring
from shifter.cli.columns import CIRCUITS, circuit_cells
from shifter.cli.consent import who
from shifter.cli.output import note, write_json, write_table
from shifter.cli.session import InSession, need_state
from shifter.config import Settings
from shifter.fleet.overrides import set_by_hand
from shifter.fleet.shared_state import OverrideCell, by_hand_cell
from shifter.fleet.view import Fleet, look
from shifter.model.duration import duration_ms
from shifter.model.lane import check_name

_LEAST_MS: Final = 1_000


def list_(*, json: bool = False, session: InSession) -> None:
    """Show every dependency of the fleet: circuit, calls, and what was held back.

    Args:
        json: One JSON array.
        session: This command line.
    """
    fleet = asyncio.run(look_at(need_state(session.settings())))
    if json:
        write_json(msgspec.to_builtins(fleet.circuits))
        return
    write_table(CIRCUITS, circuit_cells(fleet.circuits), empty="no dependencies")


def open_(
    dependency: str, *, reason: str, for_: str = "1h", session: InSession
) -> None:
    """Keep all processes from calling a dependency, whatever they see.

    Args:
        dependency: Its name.
        reason: Why, for those who look later.
        for_: How long; then the fleet decides again.
        session: This command line.
    """
    _set(session, dependency, "open", reason, for_)


def close(
    dependency: str, *, reason: str, for_: str = "1h", session: InSession
) -> None:
    """Let all processes call a dependency, whatever they see.

    Args:
        dependency: Its name.
        reason: Why, for those who look later.
        for_: How long; then the fleet decides again.
        session: This command line.
    """
    _set(session, dependency, "closed", reason, for_)


def auto(dependency: str, *, session: InSession) -> None:
    """Let the fleet decide again about a dependency.

    Args:
        dependency: Its name.
        session: This command line.
    """
    settings, name = need_state(session.settings()), check_name("name", dependency)
    asyncio.run(_apply(settings, name, None))
    note(f"{name}: the fleet decides")


def _set(session: InSession, name: str, to: str, reason: str, for_: str) -> None:
    settings, name = need_state(session.settings()), check_name("name", name)
    until_ms = duration_ms("--for", for_, minimum_ms=_LEAST_MS)
    setting = msgspec.convert(
        {"to": to, "owner": who(), "reason": reason, "until_ms": until_ms}, OverrideCell
    )
    fleet = asyncio.run(_apply(settings, name, setting))
    note(f"{name}: {to} for {for_}, by {setting.owner}: {reason}")
    known = [row.dependency for row in fleet.circuits if row.processes]
    if name not in known:
        shown = ", ".join(known) or "none"
        note(f"warning: no process speaks of {name!r} now; they do of: {shown}")


async def _apply(settings: Settings, name: str, setting: OverrideCell | None) -> Fleet:
    store, process = wiring.open_fleet(settings), wiring.new_worker_id()
    try:
        await set_by_hand(store, process, by_hand_cell(name), setting)
        return await look(store, process)
    finally:
        await store.close()


async def look_at(settings: Settings) -> Fleet:
    """What the fleet of these settings says and agreed on."""
    store = wiring.open_fleet(settings)
    try:
        return await look(store, wiring.new_worker_id())
    finally:
        await store.close()
