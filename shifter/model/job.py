"""What a job type declares: its name, lane and limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shifter.model.priority import Priority
from shifter.model.window import WeeklyWindow


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
        name: What the wire calls it; unique in an app.
        queue: The queue its lanes belong to.
        priority: Unless a call says otherwise.
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
        cron: When workers submit it by themselves, if they do.
        on_budget: What happens to a retry that the dependency's budget refuses.
        repair: Whether a cheaper answer is followed by the job itself, at LOW.
        opportunistic: Whether it starts only while the fleet is idle.
        msgpack: Whether its payload may come as msgpack, beside JSON.
        aliases: Names that it had before; records under them run as this job.
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
