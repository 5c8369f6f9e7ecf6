"""A retry budget that many processes share, as the store keeps it: rows of buckets.

The rules are those of `shifter.policy.protection.budget`; here they are functions of
plain rows, which a script of the store computes as well (``lua/fleet_sync.lua``).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from shifter.model.fleet import MAX_COUNT, BudgetWish
from shifter.model.lane import Priority
from shifter.policy.protection.budget import RETRY_MILLI, BudgetPolicy, withheld_milli

BudgetRow: TypeAlias = dict[int, tuple[int, int]]
"""Thousandths of a retry deposited and withdrawn, by the number of the bucket."""

MAX_DEPOSIT_MILLI: Final = 1_000_000_000
"""What one bucket holds at most: a million retries, either way."""

URGENT_FIRST: Final = sorted(Priority, key=lambda priority: -priority.rank)


def wish(
    name: str,
    policy: BudgetPolicy,
    *,
    earned_milli: int,
    wants: tuple[int, int, int, int],
) -> BudgetWish:
    """What a process asks of a budget.

    Args:
        name: The dependency's.
        policy: The budget's.
        earned_milli: Since the last wish, thousandths of a retry; below 0 if more
            was spent without the store than was earned.
        wants: Whole retries, most urgent priority first.
    """
    return BudgetWish(
        name,
        policy.floor_milli,
        policy.bucket_ms,
        policy.deposit_buckets,
        policy.withdrawal_buckets,
        earned_milli,
        wants,
    )


def is_sound(row: BudgetRow) -> bool:
    """Whether a row read from a store is one that `serve` can have written. Pure."""
    return all(
        0 <= n <= MAX_COUNT
        and abs(deposited) <= MAX_DEPOSIT_MILLI
        and 0 <= withdrawn <= MAX_COUNT
        for n, (deposited, withdrawn) in row.items()
    )


def serve(
    row: BudgetRow, asked: BudgetWish, *, now_ms: int
) -> tuple[BudgetRow, tuple[int, int, int, int]]:
    """Deposit, then grant the most urgent first; the row afterwards, and the grants.

    A clock that goes back is taken to stand still; one that went back by more than
    the row remembers begins a new row. Pure.
    """
    longest = max(asked.deposit_buckets, asked.withdrawal_buckets)
    current = now_ms // asked.bucket_ms
    known = {n: sums for n, sums in row.items() if n <= current + longest}
    current = max(current, max(known, default=0))
    after = {n: sums for n, sums in known.items() if n > current - longest}
    deposited, withdrawn = after.get(current, (0, 0))
    deposited += asked.deposit_milli
    deposited = max(-MAX_DEPOSIT_MILLI, min(MAX_DEPOSIT_MILLI, deposited))
    after[current] = (deposited, withdrawn)
    capacity = asked.floor_milli + sum(
        milli for n, (milli, _) in after.items() if n > current - asked.deposit_buckets
    )
    left = capacity - sum(
        milli
        for n, (_, milli) in after.items()
        if n > current - asked.withdrawal_buckets
    )
    granted = []
    for priority, want in zip(URGENT_FIRST, asked.wants, strict=True):
        free = left - withheld_milli(capacity, priority)
        retries = min(want, max(0, free // RETRY_MILLI))
        left -= retries * RETRY_MILLI
        withdrawn += retries * RETRY_MILLI
        granted.append(retries)
    after[current] = (deposited, withdrawn)
    critical, high, normal, low = granted
    return after, (critical, high, normal, low)
