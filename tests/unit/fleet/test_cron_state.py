"""What a fleet shares of its cron jobs, as one process reads it."""

from __future__ import annotations

import msgspec
import pytest

from shifter.fleet.cron_state import (
    CronFiring,
    CronRun,
    CronState,
    encode_cron,
    last_cell,
    pause_cell,
    run_cell,
)
from shifter.fleet.shared_state import OverrideCell, setting_text
from shifter.model.fleet import Proposal

JOB = "018f0000-0000-4000-8000-000000000001"
NOW = 1_000_000
RUN = CronRun(JOB, "ann", "a drill", NOW + 1)
PAUSE = OverrideCell("pause", "ann", "a drill", NOW + 1)
HOSTILE = [b"", b"\xff", b"{}", b"[]", b"[" * 4_000, b'{"job_id": 7}', b"x" * 9_000]


def learnt(cells, state=None) -> CronState:
    state = CronState() if state is None else state
    state.learn(cells, NOW)
    return state


def test_a_firing_is_skipped_if_it_lies_before_the_end_of_a_pause():
    state = learnt({pause_cell("digest"): setting_text(PAUSE)})

    assert state.is_paused("digest", NOW)
    assert not state.is_paused("digest", NOW + 1)
    assert not state.is_paused("other", NOW)


def test_a_pause_that_is_removed_or_over_holds_no_more():
    state = learnt({pause_cell("digest"): setting_text(PAUSE)})

    state.learn({pause_cell("digest"): setting_text(PAUSE)}, NOW + 1)

    assert not state.is_paused("digest", NOW)
    assert not learnt({}, learnt({pause_cell("digest"): b""})).is_paused("digest", NOW)


def test_a_run_wakes_the_process_is_taken_once_and_removed_when_it_is_written():
    woken = []
    state = CronState(lambda: woken.append(1))
    cells = {run_cell("digest"): encode_cron(RUN)}
    learnt(cells, state)

    taken = state.take_runs()
    assert (woken, taken, state.take_runs()) == ([1], {"digest": RUN}, {})
    assert list(state.propose()) == []
    state.wrote(taken["digest"])
    learnt(cells, state)

    assert state.take_runs() == {}
    removal = Proposal(run_cell("digest"), encode_cron(RUN), b"")
    assert list(state.propose()) == [removal]


def test_a_firing_is_proposed_until_the_fleet_has_it_or_a_later_one():
    state, cell = CronState(), last_cell("digest")
    first, later = CronFiring(NOW - 5, JOB), CronFiring(NOW, JOB, "ann")
    state.fired("digest", first)

    assert list(state.propose()) == [Proposal(cell, b"", encode_cron(first))]
    assert list(learnt({cell: encode_cron(first)}, state).propose()) == []
    state.fired("digest", first)
    assert list(learnt({cell: encode_cron(later)}, state).propose()) == []
    state.fired("digest", later)
    learnt({cell: encode_cron(first)}, state)
    assert list(state.propose()) == [
        Proposal(cell, encode_cron(first), encode_cron(later))
    ]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:9]))
def test_what_no_process_wrote_pauses_and_runs_nothing(text):
    state = CronState()
    state.fired("digest", CronFiring(NOW, JOB))

    learnt({name("digest"): text for name in (pause_cell, run_cell, last_cell)}, state)

    assert not state.is_paused("digest", NOW)
    assert state.take_runs() == {}
    [proposal] = state.propose()
    assert (proposal.name, proposal.expected) == (last_cell("digest"), text)


@pytest.mark.parametrize(
    "facts",
    [{"job_id": "x"}, {"job_id": JOB.upper()}, {"until_ms": NOW}, {"owner": 7}],
    ids=str,
)
def test_a_run_that_is_over_or_names_no_job_is_not_taken(facts):
    raw = msgspec.json.encode({**msgspec.to_builtins(RUN), **facts})

    assert learnt({run_cell("digest"): raw}).take_runs() == {}


def test_a_firing_far_ahead_of_the_clock_is_replaced():
    state, cell = CronState(), last_cell("digest")
    forged = encode_cron(CronFiring(NOW + 3_600_000, JOB))
    state.fired("digest", CronFiring(NOW, JOB))

    learnt({cell: forged}, state)

    assert [one.expected for one in state.propose()] == [forged]
