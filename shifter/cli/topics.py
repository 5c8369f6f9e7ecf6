"""``shifter topics plan|apply|diff``: make what an app needs, delete nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from shifter import wiring
from shifter.api.app import Shifter
from shifter.cli.output import note, write_json, write_table
from shifter.cli.problem import Exit
from shifter.cli.session import InSession, need_log
from shifter.ports import TopicChange, TopicSpec

_COLUMNS = ("topic", "action", "detail")


def plan(target: str, /, *, json: bool = False, session: InSession) -> None:
    """Show every topic that an app needs, and what `apply` would change.

    Nothing is changed.

    Example: shifter topics plan shop.jobs:app

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print a JSON list of topic, action and detail.
        session: This command line.
    """
    specs, changes = asyncio.run(_look(session.app(target), apply=False))
    touched = {change.topic for change in changes}
    kept = [_kept(spec) for spec in specs if spec.name not in touched]
    _write(sorted([*changes, *kept]), as_json=json)


def apply(target: str, /, *, json: bool = False, session: InSession) -> int:
    """Create the missing topics of an app, and widen those that are narrow.

    No topic is narrowed or deleted. It ends with 3 when a change is left to a person.

    Example: shifter topics apply shop.jobs:app

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print a JSON list of topic, action and detail.
        session: This command line.
    """
    _, changes = asyncio.run(_look(session.app(target), apply=True))
    _write(changes, as_json=json)
    needs_person = any(change.action == "warn" for change in changes)
    return Exit.PARTIAL if needs_person else Exit.OK


def diff(target: str, /, *, json: bool = False, session: InSession) -> int:
    """Show only the topics that differ from what an app needs.

    It ends with 1 when one differs; notes, which the owner of the brokers may follow,
    do not count.

    Example: shifter topics diff shop.jobs:app --json

    Args:
        target: MODULE:APP, such as shop.jobs:app.
        json: Print a JSON list of topic, action and detail.
        session: This command line.
    """
    _, changes = asyncio.run(_look(session.app(target), apply=False))
    _write(changes, as_json=json)
    differs = any(change.action != "note" for change in changes)
    return Exit.FAILURE if differs else Exit.OK


async def _look(
    app: Shifter, *, apply: bool
) -> tuple[list[TopicSpec], list[TopicChange]]:
    specs = wiring.topic_specs(app.settings, app.queues)
    async with wiring.opened_admin(need_log(app.settings)) as admin:
        change = admin.apply if apply else admin.diff
        return specs, await change(specs)


def _kept(spec: TopicSpec) -> TopicChange:
    return TopicChange(spec.name, "keep", f"{spec.partitions} partitions or more")


def _write(changes: Sequence[TopicChange], *, as_json: bool) -> None:
    if as_json:
        found: list[dict[str, Any]] = [change._asdict() for change in changes]
        write_json(found)
        return
    write_table(_COLUMNS, changes, empty="every topic is as it should be")
    if not changes:
        return
    if any(change.action == "warn" for change in changes):
        note("'warn' is left to a person: shifter never narrows or deletes a topic")
    if any(change.action == "note" for change in changes):
        note("'note' is a setting of the brokers, which their owner can change")
