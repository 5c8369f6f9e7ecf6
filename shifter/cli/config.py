"""``shifter config show``."""

from __future__ import annotations

from shifter.cli.output import write_json, write_table
from shifter.cli.session import InSession


def show(*, origin: bool = False, json: bool = False, session: InSession) -> None:
    """Show all settings; secrets are masked.

    Example: shifter config show --origin

    Args:
        origin: Show where each value comes from.
        json: Print one JSON object: name to value and origin.
        session: This command line.
    """
    shown = list(session.settings().shown())
    if json:
        write_json(
            {name: {"value": value, "origin": came} for name, value, came in shown}
        )
        return
    if origin:
        write_table(("setting", "value", "origin"), shown, empty="no settings")
        return
    write_table(("setting", "value"), [row[:2] for row in shown], empty="no settings")
