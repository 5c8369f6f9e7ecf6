"""The account of a run: nothing is hidden, and the plot and the table say the same."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, strategies as st

from shifter.demo.backend import BackendState, Execution
from shifter.demo.outcome import COLUMNS, Tally, cells, settle, verdict
from shifter.demo.plot import draw
from shifter.model.lane import Priority

PRIORITIES = st.sampled_from(list(Priority))
NAMES = st.text("abcdefgh", min_size=1, max_size=2)
STATE = BackendState(
    False, 20, {}, repeats=0, doubled=0, refused=0, cut=0, executions=[]
)


def settled(tally, *, left=None, state=STATE):
    tally.played_s, tally.drained_s = 10.0, 5.0
    return settle(tally, state, left or {}, speed=10.0)


def tally_of(accepted=(), executed=(), dead=(), unknown=()):
    """A tally; jobs are LOW."""
    tally = Tally()
    tally.began_at = 100.0
    for job_id in (*accepted, *unknown):
        tally.offer(Priority.LOW, 100.5)
        if job_id in accepted:
            tally.accepted[job_id] = Priority.LOW
    tally.execute(Execution(job_id, Priority.LOW, 0.5, 101.5) for job_id in executed)
    tally.dead |= set(dead)
    tally.unknown |= set(unknown)
    return tally


def test_a_run_in_which_every_job_ended_is_complete():
    outcome = settled(tally_of("abc", executed="ab", dead="c"))

    assert outcome.is_complete
    assert (outcome.lost, outcome.waiting, outcome.duplicates) == (0, 0, 0)
    assert verdict(outcome).endswith("every accepted job ended, once")


def test_a_job_that_is_still_in_the_log_waits():
    outcome = settled(tally_of("abc", executed="a"), left={Priority.LOW: 2})

    assert (outcome.lost, outcome.waiting) == (0, 2)
    assert not outcome.is_complete
    assert "2 jobs still waited" in verdict(outcome)


def test_a_job_that_is_neither_ended_nor_in_the_log_is_lost():
    left = {Priority.LOW: 1, Priority.HIGH: 5}

    outcome = settled(tally_of("abc", executed="a"), left=left)

    assert (outcome.lost, outcome.waiting) == (1, 1)
    assert not outcome.is_complete
    assert verdict(outcome).endswith("this must not be")


def test_work_that_was_carried_out_twice_is_no_success():
    state = msgspec.structs.replace(STATE, doubled=1)

    outcome = settled(tally_of("a", executed="a"), state=state)

    assert outcome.duplicates == 1
    assert not outcome.is_complete


def test_a_call_with_an_unknown_outcome_counts_once_its_job_has_ended():
    outcome = settled(tally_of("a", executed="ab", unknown="bc"))

    assert outcome.as_json()["unknown"] == 1
    assert outcome.as_json()["accepted"] == 2
    assert outcome.is_complete


@given(
    st.dictionaries(NAMES, PRIORITIES),
    st.sets(NAMES),
    st.sets(NAMES),
    st.dictionaries(PRIORITIES, st.integers(0, 30)),
)
def test_every_accepted_job_is_in_exactly_one_place(accepted, executed, dead, left):
    tally = Tally()
    tally.accepted |= accepted
    done = {i: p for i, p in accepted.items() if i in executed and i not in dead}
    tally.execute(
        Execution(job_id, priority, 0.0, 0.0) for job_id, priority in done.items()
    )
    tally.dead |= dead

    numbers = settled(tally, left=left).as_json()

    counted = ("executed", "dead", "ended_otherwise", "waiting", "lost")
    assert sum(numbers[name] for name in counted) == numbers["accepted"]
    rows = numbers["priorities"]
    for name in ("accepted", "executed", "dead", "waiting"):
        assert sum(row[name] for row in rows) == numbers[name]


def test_waits_are_given_as_median_and_as_99_of_a_hundred():
    tally = Tally()
    waits = [n / 100 for n in range(1, 101)]
    tally.execute(
        Execution(str(n), Priority.HIGH, wait_s, 0.0) for n, wait_s in enumerate(waits)
    )

    [row] = [row for row in settled(tally).rows if row.priority is Priority.HIGH]

    assert (row.wait_p50_s, row.wait_p99_s) == (0.5, 0.99)


def test_the_table_has_a_cell_for_each_heading_and_a_sum():
    table = cells(settled(tally_of("abc", executed="ab", dead="c")))

    assert {len(row) for row in table} == {len(COLUMNS)}
    assert table[-1][:5] == ("all", 3, 2, 1, 0)


def panels(svg):
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    return root, [line.get("points") for line in root.iter(f"{space}polyline")]


def test_the_plot_is_one_file_that_needs_nothing_else():
    tally = tally_of("abc", executed="ab")
    tally.note("<b> & co", 103.0)
    tally.waiting.append((1.0, {Priority.LOW: 3}))

    svg = draw(settled(tally))

    root, lines = panels(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(lines) == 3 * len(Priority)
    assert "&lt;b&gt; &amp; co" in svg
    assert "CC BY 4.0" in svg
    for outside in ("href", "url(", "<script", "@import"):
        assert outside not in svg


@pytest.mark.parametrize("events", [0, 100])
def test_nothing_is_drawn_outside_of_the_picture(events):
    tally = tally_of("abc", executed="ab")
    tally.waiting.append((999.0, {Priority.LOW: 3}))
    for number in range(events):
        tally.note("something", 101.0 + number)

    root, lines = panels(draw(settled(tally)))

    _, _, width, height = map(float, root.get("viewBox").split())
    for line in lines:
        for point in line.split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert float(text.get("y")) <= height


def test_a_run_without_a_single_job_can_be_drawn():
    _, lines = panels(draw(settled(Tally())))

    assert len(lines) == 3 * len(Priority)
