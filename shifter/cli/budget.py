"""``shifter budget list``: how many retries the fleet may still make."""

from __future__ import annotations

import asyncio

import msgspec

from shifter.cli.circuit import look_at
from shifter.cli.columns import BUDGETS, budget_cells
from shifter.cli.output import write_json, write_table
from shifter.cli.session import InSession, need_state


def list_(*, json: bool = False, session: InSession) -> None:
    """Show the retry budget of every dependency: earned, made, left, refused.

    Args:
        json: One JSON array.
        session: This command line.
    """
    fleet = asyncio.run(look_at(need_state(session.settings())))
    if json:
        write_json(msgspec.to_builtins(fleet.budgets))
        return
    write_table(BUDGETS, budget_cells(fleet.budgets), empty="no dependencies")
