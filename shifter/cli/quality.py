"""``shifter quality show|set|auto``: how good answers are while there is too little."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from shifter import wiring
from shifter.cli.consent import who
from shifter.cli.output import note, write_json, write_line
from shifter.cli.session import InSession, need_state
from shifter.config import Settings
from shifter.errors import ConfigError
from shifter.fleet.overrides import set_by_hand
from shifter.fleet.shared_state import QUALITY_BY_HAND, OverrideCell
from shifter.fleet.view import QualityRow, look
from shifter.model.duration import duration_ms
from shifter.model.quality import Quality

_LEAST_MS: Final = 1_000


def show(*, json: bool = False, session: InSession) -> None:
    """Show the quality that the fleet serves at, and why.

    Args:
        json: One JSON object.
        session: This command line.
    """
    row = asyncio.run(_apply(need_state(session.settings()), _ASK))
    if json:
        write_json(msgspec.to_builtins(row))
    else:
        write_line(quality_text(row))


def set_(quality: str, *, reason: str, for_: str = "1h", session: InSession) -> None:
    """Set the quality of the whole fleet by hand.

    Args:
        quality: FULL, REDUCED or MINIMAL.
        reason: Why, for those who look later.
        for_: How long; then load decides again.
        session: This command line.
    """
    settings, word = need_state(session.settings()), quality.upper()
    if word not in set(Quality):
        raise ConfigError("quality", quality, f"use one of {', '.join(Quality)}")
    until_ms = duration_ms("--for", for_, minimum_ms=_LEAST_MS)
    setting = msgspec.convert(
        {"to": word, "owner": who(), "reason": reason, "until_ms": until_ms},
        OverrideCell,
    )
    note(quality_text(asyncio.run(_apply(settings, setting))))


def auto(*, session: InSession) -> None:
    """Let load decide again.

    Args:
        session: This command line.
    """
    note(quality_text(asyncio.run(_apply(need_state(session.settings()), None))))


def quality_text(row: QualityRow) -> str:
    """One line for people."""
    load = "no process" if row.load is None else f"load {row.load:.2f}"
    text = f"{row.quality}: {load}, {row.processes} processes"
    if row.by_hand is None:
        return text
    by = row.by_hand
    return f"{text}; by hand of {by.owner} for {by.left_s:.0f} s more: {by.reason}"


_ASK: Final = OverrideCell("FULL", "", "", 0)


async def _apply(settings: Settings, setting: OverrideCell | None) -> QualityRow:
    store, process = wiring.open_fleet(settings), wiring.new_worker_id()
    try:
        if setting is not _ASK:
            await set_by_hand(store, process, QUALITY_BY_HAND, setting)
        return (await look(store, process)).quality
    finally:
        await store.close()
