"""Dead letters as an on-call engineer wants them: by failure, or one of them whole."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple

import msgspec

from shifter.cli.problem import Exit, Problem, ProblemError, usage
from shifter.errors import DecodeError
from shifter.model.hint import nearest
from shifter.model.lane import dead_letter_topic
from shifter.ports import Delivery, LogAdmin
from shifter.wire.dead_letter import read_dead_letter
from shifter.wire.depth import check_depth

# Fingerprints of a stranger's topic may all differ; beyond this many they are one.
MAX_GROUPS: Final = 10_000
OTHERS: Final = "others"
# Records that no worker of ours wrote.
FOREIGN: Final = "foreign"


class Group(msgspec.Struct):
    """Dead letters of one fingerprint; the field names are a published contract.

    Attributes:
        fingerprint: Of error type and stack.
        count: How many.
        error: Error type of the newest.
        message: Its message.
        reason: Why it went there, a `Reason` value.
        first_seen_ms: Oldest failure, epoch milliseconds.
        last_seen_ms: Newest failure, epoch milliseconds.
        sample_job_id: Job id of the newest; ``None`` if it had none.
    """

    fingerprint: str
    count: int
    error: str
    message: str
    reason: str
    first_seen_ms: int
    last_seen_ms: int
    sample_job_id: str | None


class Place(NamedTuple):
    """A position in a topic."""

    partition: int
    offset: int


async def find_topic(admin: LogAdmin, namespace: str | None, name: str) -> str:
    """The topic that a queue of the namespace, or a topic's own name, stands for.

    Raises:
        ProblemError: There is none.
    """
    topics = await admin.topics()
    if namespace is not None and "." not in name:
        topic = dead_letter_topic(namespace, name)
        if topic in topics:
            return topic
    if name in topics:
        return name
    known = [topic for topic in topics if "dlt" in topic or "dead" in topic]
    raise ProblemError(
        Problem(
            "unknown_topic",
            f"there is no dead-letter topic for {name!r}",
            f"neither a queue of {namespace!r} nor a topic has this name",
            nearest(name, known, "topics that look like one"),
            Exit.FAILURE,
        )
    )


async def group(batches: AsyncIterator[list[Delivery]]) -> list[Group]:
    """Groups by fingerprint, the largest first."""
    groups: dict[str, Group] = {}
    async for batch in batches:
        for delivery in batch:
            _count(groups, delivery)
    return sorted(groups.values(), key=lambda found: (-found.count, found.fingerprint))


async def find(
    batches: AsyncIterator[list[Delivery]], wanted: Callable[[Delivery], bool]
) -> Delivery | None:
    """The newest dead letter that is wanted, or ``None``."""
    found = None
    async for batch in batches:
        for delivery in batch:
            if wanted(delivery):
                found = delivery
    return found


def wanted_by(which: str) -> Callable[[Delivery], bool]:
    """What ``dlt show`` was asked for: a job id, or ``partition/offset``.

    Raises:
        ProblemError: It is neither.
    """
    place = parse_place(which)
    if place is not None:
        return lambda delivery: (delivery.partition, delivery.offset) == place
    try:
        job_id = str(uuid.UUID(which))
    except ValueError:
        fix = "use the id of a job, or partition/offset such as 0/42"
        raise usage("not a dead letter's name", f"it is {which!r}", fix) from None
    return lambda delivery: _job_id(delivery) == job_id


def parse_place(text: str) -> Place | None:
    """A ``partition/offset``; ``None`` if it is none.

    >>> parse_place("0/42"), parse_place("-1/42"), parse_place("x")
    (Place(partition=0, offset=42), None, None)
    """
    partition, slash, offset = text.partition("/")
    if slash and _is_count(partition, 9) and _is_count(offset, 18):
        return Place(int(partition), int(offset))
    return None


def whole(delivery: Delivery) -> dict[str, Any]:
    """One dead letter with everything in it, as JSON values."""
    value = b"" if delivery.value is None else delivery.value
    payload, encoding = readable(value)
    return {
        "topic": delivery.topic,
        "partition": delivery.partition,
        "offset": delivery.offset,
        "appended_ms": delivery.appended_ms,
        "key": None if delivery.key is None else _text_or_hex(delivery.key),
        "dead_letter": msgspec.to_builtins(read_dead_letter(delivery.headers)),
        "headers": [
            {"name": name, "value": None if raw is None else _text_or_hex(raw)}
            for name, raw in delivery.headers
        ],
        "payload_encoding": encoding,
        "payload": payload,
    }


def readable(value: bytes) -> tuple[Any, str]:
    """A payload as JSON where it is JSON, else as hex, with which of the two."""
    try:
        check_depth(value)
        return msgspec.json.decode(value), "json"
    except (DecodeError, ValueError, RecursionError):
        return value.hex(), "hex"


def _job_id(delivery: Delivery) -> str | None:
    letter = read_dead_letter(delivery.headers)
    return None if letter is None else letter.job_id


def _count(groups: dict[str, Group], delivery: Delivery) -> None:
    letter = read_dead_letter(delivery.headers)
    name, seen_ms = FOREIGN, delivery.appended_ms
    if letter is not None:
        name, seen_ms = letter.fingerprint, letter.last_failed_ms
    if name not in groups and len(groups) >= MAX_GROUPS:
        name = OTHERS
    found = groups.get(name)
    if found is None:
        found = groups[name] = Group(name, 0, "", "", name, seen_ms, seen_ms, None)
    found.count += 1
    found.first_seen_ms = min(found.first_seen_ms, seen_ms)
    if seen_ms >= found.last_seen_ms:
        found.last_seen_ms = seen_ms
        if letter is not None:
            found.error, found.message = letter.error_type, letter.error_message
            found.reason, found.sample_job_id = letter.reason, letter.job_id


def _text_or_hex(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"hex:{raw.hex()}"


def _is_count(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits
