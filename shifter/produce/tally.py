"""What was decided so far, and in the dark what would have been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.admission.input import RUN, Verdict

_DONE: Final = {"defer": "deferred", "degrade": "degraded", "shed": "shed"}


class DecisionCount(NamedTuple):
    """How often something was decided.

    Attributes:
        priority: Of the jobs.
        verdict: What was done, or in the dark would have been.
        reason: Why.
        times: How often.
        ratio: Share of all jobs of that priority.
    """

    priority: Priority
    verdict: Verdict
    reason: Reason
    times: int
    ratio: float


def tallied(counts: Mapping[tuple[int, Verdict, Reason], int]) -> list[DecisionCount]:
    """Rows, most urgent first, of how often each (rank, verdict, reason) came."""
    by_rank = {priority.rank: priority for priority in Priority}
    totals = Counter[int]()
    for (rank, _, _), count in counts.items():
        totals[rank] += count
    return [
        DecisionCount(by_rank[rank], verdict, reason, count, count / totals[rank])
        for (rank, verdict, reason), count in sorted(
            counts.items(), key=lambda row: (-row[0][0], -row[1])
        )
    ]


def sentences(rows: Iterable[DecisionCount], *, is_dark: bool) -> list[str]:
    """What was not run, or in the dark would not have been: one line a priority.

    >>> low, shed = Priority.LOW, Verdict.SHED
    >>> row = DecisionCount(low, shed, Reason.OVERLOADED, 21, 0.021)
    >>> sentences([row], is_dark=True)
    ['would have shed 2.1 % of LOW (overloaded 2.1 %)']
    """
    found: dict[tuple[Priority, Verdict], list[DecisionCount]] = {}
    for row in rows:
        if row.verdict is not RUN:
            found.setdefault((row.priority, row.verdict), []).append(row)
    said = "would have " if is_dark else ""
    return [
        f"{said}{_DONE[verdict.value]} {_percent(sum(r.ratio for r in same))} of"
        f" {priority} ({', '.join(f'{r.reason} {_percent(r.ratio)}' for r in same)})"
        for (priority, verdict), same in found.items()
    ]


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"
