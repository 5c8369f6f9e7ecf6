"""Counts of decisions, and their summary in words."""

from __future__ import annotations

from shifter import Priority, Reason
from shifter.policy.admission.input import Verdict
from shifter.produce.tally import sentences, tallied

RUN = (Verdict.RUN, Reason.ACCEPTED)
SHED = (Verdict.SHED, Reason.OVERLOADED)
FULL = (Verdict.SHED, Reason.LIMIT_REACHED)
LOW, HIGH = Priority.LOW, Priority.HIGH


def test_counts_are_shares_of_their_priority_most_urgent_first():
    rows = tallied(
        {(LOW.rank, *RUN): 3, (LOW.rank, *SHED): 1, (HIGH.rank, *RUN): 5},
    )

    assert [(row.priority, row.times, row.ratio) for row in rows] == [
        (HIGH, 5, 1.0),
        (LOW, 3, 0.75),
        (LOW, 1, 0.25),
    ]


def test_summary_leaves_out_what_was_run_and_joins_the_reasons():
    rows = tallied(
        {(LOW.rank, *RUN): 6, (LOW.rank, *SHED): 3, (LOW.rank, *FULL): 1},
    )

    assert sentences(rows, is_dark=False) == [
        "shed 40.0 % of LOW (overloaded 30.0 %, limit_reached 10.0 %)"
    ]
    assert sentences(rows, is_dark=True)[0].startswith("would have shed 40.0 %")
