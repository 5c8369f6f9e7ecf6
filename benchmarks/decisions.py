"""What one decision about a dependency costs: circuit, limit and budget; no I/O."""

from __future__ import annotations

import statistics
import time

from shifter.model.priority import Priority
from shifter.policy.budget import Budget, BudgetPolicy
from shifter.policy.guard import Dependency, Guard
from shifter.policy.limit import may_start

_ROUNDS = 200_000


def decide(guard: Guard, budget: Budget, now_ms: int) -> bool:
    """Circuit, concurrency limit and retry budget, as for a retry that may be made."""
    guard.admit(now_ms)
    return may_start(20.0, 7, Priority.NORMAL) and (
        budget.withdraw(now_ms, Priority.NORMAL) > 0
    )


def measure() -> tuple[float, float]:
    """Microseconds of a decision: p50 and p99, the clock's own cost taken off p50."""
    guard, budget = Guard(Dependency("mailer")), Budget(BudgetPolicy(floor_per_s=1_000))
    took, empty = [], []
    for step in range(_ROUNDS):
        now_ms = step // 100
        begin = time.perf_counter_ns()
        decide(guard, budget, now_ms)
        end = time.perf_counter_ns()
        took.append(end - begin)
        empty.append(time.perf_counter_ns() - end)
    took.sort()
    clock_ns = statistics.median(empty)
    return (took[_ROUNDS // 2] - clock_ns) / 1_000, took[_ROUNDS * 99 // 100] / 1_000


if __name__ == "__main__":
    p50_us, p99_us = measure()
    print(f"decision: p50 {p50_us:.2f} us, p99 {p99_us:.2f} us, {_ROUNDS} rounds")
