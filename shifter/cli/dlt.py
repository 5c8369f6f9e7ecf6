"""``shifter dlt list|show``: what did not succeed, and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from shifter.cli.columns import instant_text
from shifter.cli.letters import (
    Group,
    find,
    find_topic,
    group,
    parse_place,
    wanted_by,
    whole,
)
from shifter.cli.opening import opened_admin
from shifter.cli.output import escape, note, write_json, write_line, write_table
from shifter.cli.problem import Exit, Problem, ProblemError, usage
from shifter.cli.session import InSession
from shifter.config import Settings
from shifter.ports import Delivery
from shifter.telemetry.encode import encode_line

_COLUMNS = ("count", "reason", "error", "message", "last seen", "fingerprint")
_MESSAGE = 60


def list_(
    source: str,
    /,
    *,
    limit: int = 50,
    json: bool = False,
    session: InSession,
) -> None:
    """Group the dead letters of a queue or topic by their failure.

    Args:
        source: A queue of the namespace, or any topic.
        limit: Most groups shown, the largest first.
        json: A JSON list of groups.
        session: This command line.
    """
    if limit < 1:
        raise usage("--limit is too small", f"it is {limit}", "use 1 or more")
    groups = asyncio.run(_groups(session.settings(), source))
    if json:
        write_json(msgspec.to_builtins(groups[:limit]))
        return
    rows = [_row(found) for found in groups[:limit]]
    write_table(_COLUMNS, rows, empty=f"no dead letters in {source}")
    if len(groups) > limit:
        note(
            f"{len(groups) - limit} smaller groups are not shown: --limit {len(groups)}"
        )


def show(
    source: str, which: str | None = None, /, *, json: bool = False, session: InSession
) -> None:
    """Show one dead letter whole: reason, stack, headers, payload.

    Args:
        source: A queue of the namespace, any topic, or TOPIC/PARTITION/OFFSET.
        which: The job's id, or PARTITION/OFFSET.
        json: One JSON object.
        session: This command line.
    """
    if which is None:
        source, which = _split(source)
    wanted = wanted_by(which)
    delivery = asyncio.run(_find(session.settings(), source, wanted))
    if delivery is None:
        raise ProblemError(
            Problem(
                "unknown_dead_letter",
                f"{source} holds no dead letter {which}",
                "it was never there, or its retention has passed",
                f"shifter dlt list {source}",
                Exit.FAILURE,
            )
        )
    _write(whole(delivery), as_json=json)


async def _groups(settings: Settings, source: str) -> list[Group]:
    async with opened_admin(settings) as admin:
        topic = await find_topic(admin, settings.namespace, source)
        return await group(admin.scan(topic))


async def _find(
    settings: Settings, source: str, wanted: Callable[[Delivery], bool]
) -> Delivery | None:
    async with opened_admin(settings) as admin:
        topic = await find_topic(admin, settings.namespace, source)
        return await find(admin.scan(topic), wanted)


def _split(text: str) -> tuple[str, str]:
    topic, _, rest = text.partition("/")
    if parse_place(rest) is None:
        fix = "add the job's id or PARTITION/OFFSET: shifter dlt show mail 0/42"
        raise usage("which dead letter is not said", f"only {text!r} is given", fix)
    return topic, rest


def _row(found: Group) -> tuple[object, ...]:
    seen = instant_text(found.last_seen_ms)
    message = escape(found.message, _MESSAGE)
    return found.count, found.reason, found.error, message, seen, found.fingerprint


def _write(letter: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(letter)
        return
    facts = letter["dead_letter"] or {"reason": "foreign: no headers of shifter"}
    stack = facts.pop("error_stack", None) or ""
    for name, value in facts.items():
        if value is not None:
            shown = instant_text(value) if name.endswith("_ms") else value
            write_line(f"{name.removesuffix('_ms')}: {escape(shown)}")
    if stack:
        write_line("stack:")
        for line in stack.splitlines():
            write_line(f"  {escape(line)}")
    write_line(
        f"headers of {letter['topic']}/{letter['partition']}/{letter['offset']}:"
    )
    for header in letter["headers"]:
        value = "-" if header["value"] is None else escape(header["value"])
        write_line(f"  {escape(header['name'])}: {value}")
    write_line(f"payload ({letter['payload_encoding']}):")
    text = msgspec.json.format(encode_line(letter["payload"]), indent=2).decode()
    write_line(text)
