"""A job: its id, what its type declares, and the hours in which it may start.

An id is a UUID. Claims, pointers and dead letters are found by its text, so it is kept
in one spelling: lower case with hyphens. Any spelling of RFC 9562 is accepted, so that
a cancel finds the job whose submission spelled the id otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Final

from shifter.errors import ConfigError
from shifter.model.error_kinds import NO_RULES, ErrorRules
from shifter.model.lane import Priority

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 1_440

_UUID: Final = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}"
_SPELLINGS: Final = re.compile(
    rf"(?:urn:uuid:)?({_UUID})|\{{({_UUID})\}}", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """One span of the day, on some days of the week.

    A span past midnight belongs to the day it opens on.

    Attributes:
        open_min: Minute of the day it opens, 0-1439.
        close_min: Minute it closes, itself excluded; more than ``open_min``, up to a
            day later.
        days: Days it opens on, 0 for Monday; never empty.
        zone: Time zone of the minutes.
        text: The window as it was written, for messages.
    """

    open_min: int
    close_min: int
    days: frozenset[int]
    zone: tzinfo
    text: str


@dataclass(frozen=True, slots=True)
class LaneRule:
    """When a lane is drained.

    Attributes:
        windows: Only while one of them is open; always if there are none.
        is_opportunistic: Only while the fleet is idle.
    """

    windows: tuple[WeeklyWindow, ...] = ()
    is_opportunistic: bool = False


class Isolation(StrEnum):
    """Where a handler runs."""

    LOOP = "loop"
    THREAD = "thread"
    PROCESS = "process"


class OnBlock(StrEnum):
    """What happens to a keyed job whose retries hold up its key for too long."""

    DEAD_LETTER = "dead_letter"
    HOLD = "hold"


class OnBudget(StrEnum):
    """What happens to a retry that its dependency's budget refuses."""

    WAIT = "wait"
    DEAD_LETTER = "dead_letter"


class ClaimsMode(StrEnum):
    """What a worker does with a job while the claim store does not answer."""

    PROCEED = "proceed"
    PARK = "park"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job type as declared; durations are checked and in milliseconds.

    Attributes:
        name: Its name in records; unique in an app.
        queue: The queue its lanes belong to.
        priority: Priority of a call that states none.
        isolation: Where its handler runs.
        timeout_ms: Longest one attempt may take, > 0.
        deadline_ms: After this long, from submission, it has no value; ``None`` never.
        attempts: Attempts allowed, including the first, >= 1.
        backoff_base_ms: First backoff's upper bound, > 0.
        backoff_cap_ms: Largest backoff's upper bound, >= base.
        block_ms: How long a keyed job's retries may hold up its key, > 0.
        on_block: What happens then.
        claims: What happens while the claim store is away.
        dedup_ms: How long a user's idempotency key is remembered, > 0.
        keep_status_ms: How long an ended job's state can be asked for, > 0.
        inline: Whether ``submit`` may run it in the process that submits it.
        windows: When it may start; always if there are none.
        cron: When workers submit it by themselves; ``None`` for never.
        on_budget: What happens to a retry that the dependency's budget refuses.
        repair: Whether a degraded answer is followed by the job itself, at ``LOW``.
        opportunistic: Whether it starts only while the fleet is idle.
        msgpack: Whether its payload may come as msgpack, beside JSON.
        aliases: Names that it had before; records under them run as this job.
        error_rules: Which failures are retried, and how soon.
    """

    name: str
    queue: str = "default"
    priority: Priority = Priority.NORMAL
    isolation: Isolation = Isolation.LOOP
    timeout_ms: int = 60_000
    deadline_ms: int | None = None
    attempts: int = 4
    backoff_base_ms: int = 1_000
    backoff_cap_ms: int = 300_000
    block_ms: int = 300_000
    on_block: OnBlock = OnBlock.DEAD_LETTER
    claims: ClaimsMode = ClaimsMode.PROCEED
    dedup_ms: int = 86_400_000
    keep_status_ms: int = 300_000
    inline: bool = True
    windows: tuple[WeeklyWindow, ...] = ()
    cron: str | None = None
    on_budget: OnBudget = OnBudget.WAIT
    repair: bool = False
    opportunistic: bool = False
    msgpack: bool = False
    aliases: tuple[str, ...] = ()
    error_rules: ErrorRules = NO_RULES


def canonical_id(value: object) -> str | None:
    """An id in lower case with hyphens; ``None`` if the value is no UUID.

    Args:
        value: A UUID as text (upper case, without hyphens, in braces, as a URN), or an
            object whose text is one, such as `uuid.UUID`.

    >>> canonical_id("{0192F3C4-AAAA-7000-8000-000000000000}")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> canonical_id("0192f3c4aaaa70008000000000000000")
    '0192f3c4-aaaa-7000-8000-000000000000'
    >>> canonical_id("0192f3c4"), canonical_id(None)
    (None, None)
    """
    match = _SPELLINGS.fullmatch(str(value))
    if match is None:
        return None
    digits = (match[1] or match[2]).replace("-", "").lower()
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(parts)


def made_ms(job_id: str) -> int | None:
    """When an id was made, epoch milliseconds; ``None`` if the id has no time.

    Args:
        job_id: In the canonical spelling. A UUID of version 7 begins with its time.

    >>> made_ms("0192f3c4-aaaa-7000-8000-000000000000")
    1730666605226
    >>> made_ms("0192f3c4-aaaa-4000-8000-000000000000"), made_ms("")
    (None, None)
    """
    # The third group begins with the version.
    if job_id[14:15] != "7":
        return None
    return int(job_id[:8] + job_id[9:13], 16)


def gap_name(job_id: str) -> str:
    """The name of the minute in which a job was accepted whose state was lost.

    A claim store keeps it beside the ids of jobs; no job has it as id.

    >>> gap_name("0192f3c4-aaaa-7000-8000-000000000000")
    'gap-28844443'
    >>> gap_name("0192f3c4-aaaa-4000-8000-000000000000")
    'gap'
    """
    made = made_ms(job_id)
    return "gap" if made is None else f"gap-{made // 60_000}"


def check_job_id(field: str, value: object) -> str:
    """An id in lower case with hyphens; spellings as of `canonical_id`.

    Args:
        field: Name for the error.
        value: As it was given.

    Raises:
        ConfigError: It is no UUID.
    """
    job_id = canonical_id(value)
    if job_id is None:
        raise ConfigError(field, value, "use a UUID")
    return job_id
