"""What is left after a run: every record, every letter, every job's state.

Read from the log and the store themselves, after the drain, by nobody who was part of
the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from redis import Redis

from shifter import wiring
from shifter.config import Settings
from shifter.errors import WireError
from shifter.model.lane import parse_lane
from shifter.ports import Delivery, LogAdmin
from shifter.wire.headers import read_headers
from tests.torture.harness.event import History
from tests.torture.harness.jobs import digest_of

_ASKED_AT_ONCE: Final = 16
_LETTERS: Final = ".dlt"


class _Body(msgspec.Struct):
    body: str


async def read_all(
    settings: Settings, history: History, jobs: Iterable[str], redis_url: str | None
) -> None:
    """Write everything that is left into the history."""
    admin = wiring.open_admin(settings)
    try:
        await _read_records(admin, settings.namespace, history)
        await _read_depths(admin, settings.namespace, history)
    finally:
        await admin.close()
    await _read_statuses(settings, history, jobs)
    if redis_url is not None:
        history.note("sample", kind="redis", facts={"endless": _endless(redis_url)})


async def is_drained(settings: Settings) -> bool:
    """Whether nothing waits and nothing is delayed, by the log's own account."""
    admin = wiring.open_admin(settings)
    try:
        depths = await admin.depths(await _lanes(admin, settings.namespace))
        return not any(depth.waiting + (depth.delayed or 0) for depth in depths)
    finally:
        await admin.close()


async def _lanes(admin: LogAdmin, namespace: str) -> list[str]:
    names = [topic for topic in await admin.topics() if topic.startswith(namespace)]
    return [topic for topic in names if parse_lane(topic) is not None]


async def _read_records(admin: LogAdmin, namespace: str, history: History) -> None:
    for topic in await admin.topics():
        if not topic.startswith(namespace):
            continue
        f = "letter" if topic.endswith(_LETTERS) else "record"
        async for batch in admin.scan(topic):
            for delivery in batch:
                history.note(f, **_facts(delivery))


def _facts(delivery: Delivery) -> dict[str, Any]:
    value = delivery.value or b""
    job, turn, kind = "", 0, "garbage"
    try:
        envelope = read_headers(delivery.headers).envelope
        job, turn, kind = envelope.id, envelope.turn, envelope.type
        digest = digest_of(msgspec.json.decode(value, type=_Body).body)
    except (WireError, msgspec.MsgspecError, UnicodeDecodeError):
        digest = digest_of(value)
    reasons = dict(delivery.headers).get("shifter-reason") or b""
    return {
        "job": job,
        "kind": kind,
        "topic": delivery.topic,
        "part": delivery.partition,
        "offset": delivery.offset,
        "digest": digest,
        "reason": reasons.decode(errors="replace"),
        "facts": {"turn": turn, "appended_ms": delivery.appended_ms},
    }


async def _read_depths(admin: LogAdmin, namespace: str, history: History) -> None:
    for depth in await admin.depths(await _lanes(admin, namespace)):
        left = depth.waiting + (depth.delayed or 0)
        history.note("depth", topic=depth.topic, facts={"left": left})


async def _read_statuses(
    settings: Settings, history: History, jobs: Iterable[str]
) -> None:
    claims = wiring.open_claims(settings)
    names = iter(jobs)

    async def ask() -> None:
        for job in names:
            status = await claims.status(job)
            if status is not None:
                history.note(
                    "status",
                    job=job,
                    reason=status.state.value,
                    attempt=status.attempt,
                    facts={"updated_ms": status.updated_ms},
                )

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_ASKED_AT_ONCE):
                group.create_task(ask())
    finally:
        await claims.close()


def _endless(url: str) -> int:
    """Keys that nothing will ever remove."""
    with Redis.from_url(url) as client:
        return sum(client.ttl(key) == -1 for key in client.scan_iter(count=1_000))
