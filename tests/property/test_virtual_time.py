"""`TestApp` against what anybody would expect of time, for any set of jobs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st

from shifter import Shifter
from shifter.testing import TestApp

# 500 examples take 20 s of CPU, and CI runs two halves of the tests beside each other.
pytestmark = pytest.mark.timeout(240)

START = datetime(2026, 1, 1, tzinfo=UTC)
LONG_S = 10_000


class Plan(NamedTuple):
    """One job: when it is due, how long it runs, how often it fails, its key."""

    delay_s: int
    runs_s: int
    failures: int
    key: str | None


plans = st.lists(
    st.builds(
        Plan,
        st.integers(0, 60),
        st.integers(0, 9),
        st.integers(0, 3),
        st.sampled_from([None, None, "a", "b"]),
    ),
    max_size=12,
)
instant = plans.map(lambda found: [plan._replace(runs_s=0) for plan in found])


class Ran(NamedTuple):
    """One attempt: which job, from when to when, in milliseconds since the start."""

    number: int
    began_ms: int
    ended_ms: int


def since_start(test):
    return round((test.now - START).total_seconds() * 1_000)


def play(jobs, steps, *, concurrency=1):
    """Run jobs through drains of these lengths; attempts in order, and the reports."""
    return asyncio.run(_play(jobs, steps, concurrency))


async def _play(jobs, steps, concurrency):
    app, ran = Shifter("shop"), []

    @app.job(attempts=4, backoff="5s", max_backoff="20s", timeout="1m")
    async def work(number: int) -> None:
        began_ms = since_start(test)
        await test.clock.sleep(jobs[number].runs_s)
        ran.append(Ran(number, began_ms, since_start(test)))
        if sum(found.number == number for found in ran) <= jobs[number].failures:
            raise OSError("again")

    async with TestApp(app, concurrency=concurrency) as test:
        for number, plan in enumerate(jobs):
            bound = work.options(delay=plan.delay_s, key=plan.key)
            await bound.defer(number)
        reports = [await test.drain(advance=step) for step in steps]
        assert len(work.calls) == len(ran)
    return ran, reports


@given(plans, st.integers(1, 4))
def test_every_job_ends_once_never_early_never_more_at_once_than_allowed(jobs, most):
    ran, [report] = play(jobs, [LONG_S], concurrency=most)

    assert (report.done, report.waiting) == (len(jobs), 0)
    assert report.retried == sum(plan.failures for plan in jobs)
    assert report.started == len(ran) == report.done + report.retried
    for number, began_ms, ended_ms in ran:
        assert began_ms >= jobs[number].delay_s * 1_000
        assert ended_ms == began_ms + jobs[number].runs_s * 1_000
        at_once = [one for one in ran if one.began_ms <= began_ms < one.ended_ms]
        assert len(at_once) <= most


@given(plans, st.integers(1, 4))
def test_equal_jobs_make_equal_runs(jobs, most):
    steps = [30, LONG_S]

    assert play(jobs, steps, concurrency=most) == play(jobs, steps, concurrency=most)


@given(instant, st.lists(st.integers(0, 40), max_size=5))
def test_the_steps_in_which_time_goes_on_change_nothing(jobs, steps):
    whole, _ = play(jobs, [LONG_S])
    parts, reports = play(jobs, [*steps, LONG_S])

    assert parts == whole
    assert sum(report.done for report in reports) == len(jobs)


@given(st.lists(st.integers(0, 100), max_size=10), st.integers(0, 100))
def test_what_is_due_by_the_end_runs_in_due_order_and_nothing_else(delays, end_s):
    jobs = [Plan(delay_s, 0, 0, None) for delay_s in delays]

    ran, [report] = play(jobs, [end_s])

    due = sorted((1_000 * d, number) for number, d in enumerate(delays) if d <= end_s)
    assert [(one.began_ms, one.number) for one in ran] == due
    assert report.waiting == len(delays) - len(due)
