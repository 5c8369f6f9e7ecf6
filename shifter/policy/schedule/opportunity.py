"""Opportunistic work: a share of the slots while the fleet is idle, none while not.

Two states and a share. While there is load, only what could not make its deadline
otherwise is started (`must_start_before`). While there is none, the share of slots that
opportunistic work may hold grows by a step each interval, and is cut where a dependency
shows strain: its limit is full or shrinks, it throttles, its circuit is open. So the
idle time of a fleet is found without the capacity of any dependency.

The share stops short of all slots: an attempt that runs is not interrupted, so the next
urgent job must find a free slot.

Sources: ProFaaStinate (arXiv 2309.15471) for the states; XFaaS (SOSP '23) for the share
of opportunistic quota; additive increase, multiplicative decrease: Chiu and Jain, 1989.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shifter.policy.bounds import check_at_least, check_ratio

ALL_MILLI = 1_000
"""A whole share in thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpportunityPolicy:
    """Settings of opportunistic work.

    With the defaults the share of an idle fleet is whole after two seconds: ten steps
    of 200 ms.

    Attributes:
        interval_ms: How often the share changes at most, >= 1.
        step_milli: What an idle interval adds to it, 1 to 1,000 thousandths.
        keep_ratio: What strain leaves of it, in (0, 1).
        most_ratio: Slots it comes to at most, of all there are, in (0, 1].
        queued_ms: Load is work above it that stood in line for so long, >= 1.
        pause_ms: How long after load the fleet is not idle yet, >= 0.
        margin_ms: What more than its timeout a job must have left to its deadline for
            waiting on, >= 0.

    Raises:
        ConfigError: A value is out of its range.
    """

    interval_ms: int = 200
    step_milli: int = 100
    keep_ratio: float = 0.5
    most_ratio: float = 0.75
    queued_ms: int = 50
    pause_ms: int = 1_000
    margin_ms: int = 30_000

    def __post_init__(self) -> None:
        check_at_least("interval_ms", self.interval_ms, 1)
        check_at_least("step_milli", self.step_milli, 1)
        check_ratio("keep_ratio", self.keep_ratio, most=1)
        check_ratio("most_ratio", self.most_ratio, most=1)
        check_at_least("queued_ms", self.queued_ms, 1)
        check_at_least("pause_ms", self.pause_ms, 0)
        check_at_least("margin_ms", self.margin_ms, 0)


class LoadSigns(NamedTuple):
    """The signs of load at one moment.

    Attributes:
        is_busy: Whether other work waits for slots, here or elsewhere in the fleet.
        is_strained: Whether a dependency had less room than was asked for.
    """

    is_busy: bool = False
    is_strained: bool = False


class OpportunityState(NamedTuple):
    """How far the share has come.

    Attributes:
        share_milli: Of the slots it may come to, 0 to 1,000 thousandths.
        changed_ms: When it was changed last, monotonic; ``None`` before the first look.
        idle_from_ms: From when on the fleet counts as idle; in the past while it is.
    """

    share_milli: int = 0
    changed_ms: int | None = None
    idle_from_ms: int = 0


def observe(
    policy: OpportunityPolicy, state: OpportunityState, signs: LoadSigns, *, now_ms: int
) -> OpportunityState:
    """The state after a look; the frequency of looks does not matter. Pure.

    The first look at an idle fleet gives one step, so that a slot is free for it.

    Args:
        policy: The policy of opportunistic work.
        state: The state now.
        signs: The signs of load at this moment.
        now_ms: Monotonic.
    """
    if signs.is_busy:
        return OpportunityState(0, now_ms, now_ms + policy.pause_ms)
    if now_ms < state.idle_from_ms:
        return OpportunityState(0, now_ms, state.idle_from_ms)
    share_milli, changed_ms = state.share_milli, state.changed_ms
    if changed_ms is None or share_milli == 0:
        return state._replace(share_milli=policy.step_milli, changed_ms=now_ms)
    if now_ms - changed_ms < policy.interval_ms:
        return state
    # One step a look: the time since an earlier look was not observed.
    if signs.is_strained:
        # Never 0: without load, one slot goes on to probe the dependency.
        share_milli = max(1, int(share_milli * policy.keep_ratio))
    else:
        share_milli = min(ALL_MILLI, share_milli + policy.step_milli)
    return state._replace(share_milli=share_milli, changed_ms=now_ms)


def room(
    policy: OpportunityPolicy,
    state: OpportunityState,
    *,
    slots: int,
    free: int,
    running: int,
) -> int:
    """How many more may start now.

    Args:
        policy: The settings.
        state: As of the last look.
        slots: All slots, >= 1.
        free: Slots that are not in use, >= 0.
        running: Opportunistic attempts under way, >= 0.

    Returns:
        At least one while the fleet is idle and nothing runs, so that any number of
        slots is enough; 0 while it is not.

    Pure.
    """
    if state.share_milli == 0:
        return 0
    most = max(1, int(slots * policy.most_ratio))
    allowed = max(1, most * state.share_milli // ALL_MILLI)
    return max(0, min(allowed - running, free - (slots - most)))


def must_start_before(
    policy: OpportunityPolicy, *, now_ms: int, timeout_ms: int
) -> int:
    """Deadlines before this instant are imminent: waiting on would miss them.

    Args:
        policy: The settings.
        now_ms: Wall clock.
        timeout_ms: The longest an attempt may take.

    Pure.
    """
    return now_ms + timeout_ms + policy.margin_ms
