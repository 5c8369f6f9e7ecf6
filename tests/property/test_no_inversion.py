"""No class is shed while a lower one is let in: on the answers, whatever the order."""

from __future__ import annotations

from hypothesis import given, strategies as st

from shifter.model.priority import Priority
from shifter.policy.admitter import Admitter, AdmitterPolicy, Load
from shifter.policy.case import Asked, Decision, Needs, Verdict
from shifter.policy.lane_outlook import LaneFacts

LANES = st.one_of(
    st.none(),
    st.builds(
        LaneFacts,
        waiting=st.integers(0, 5_000),
        rate_per_s=st.one_of(st.none(), st.floats(0, 500)),
    ),
)
ASKED = st.builds(
    lambda priority, step, left_s, fallback, inline: Asked(
        priority.rank,
        priority.base_level + step,
        left_s,
        None,
        inline,
        fallback,
    ),
    st.sampled_from(Priority),
    st.integers(0, 99),
    st.one_of(st.none(), st.floats(0.1, 600)),
    st.booleans(),
    st.booleans(),
)
LOADS = st.builds(
    Load,
    inflight=st.integers(0, 25),
    limit=st.just(20),
    fallbacks=st.integers(0, 20),
    lag_ms=st.floats(0, 800),
    outside=st.floats(0, 3),
)
STEPS = st.lists(
    st.tuples(ASKED, st.sampled_from(["a", "b"]), LOADS, LANES, st.floats(0, 0.6)),
    min_size=1,
    max_size=60,
)


def played(steps) -> list[tuple[int, str, int, Decision]]:
    """Window, queue, rank and decision of each, as a history has them."""
    admitter, now, history = Admitter(AdmitterPolicy(), now=0.0), 0.0, []
    for asked, queue, load, lane, pause_s in steps:
        now += pause_s
        admitter.roll(load, now=now)
        case = admitter.case(asked, queue, load, Needs(), lane, 0.5)
        decision = admitter.decide(case, queue)
        history.append((admitter.window, queue, asked.rank, decision))
    return history


@given(STEPS)
def test_no_class_is_shed_while_a_lower_one_is_let_in_within_a_window(steps):
    history = played(steps)

    for window, queue, rank, decision in history:
        if not decision.is_want_of_room:
            continue
        lower = [
            (other_queue, other.verdict)
            for other_window, other_queue, other_rank, other in history
            if other_window == window and other_rank < rank
        ]
        assert Verdict.RUN not in [verdict for _, verdict in lower]
        assert (queue, Verdict.DEFER) not in lower


@given(STEPS)
def test_critical_is_run_while_there_is_a_slot(steps):
    """Its hard limit is the number of slots; no threshold and no lag stops it."""
    for (asked, _, load, *_), (*_, decision) in zip(steps, played(steps), strict=True):
        is_critical = asked.rank == Priority.CRITICAL.rank and asked.runs_here
        if is_critical and load.inflight < load.limit:
            assert decision.verdict is Verdict.RUN


@given(STEPS)
def test_what_is_deferred_was_expected_in_time_and_what_is_shed_says_when(steps):
    for (asked, _, _, lane, _), (*_, decision) in zip(
        steps, played(steps), strict=True
    ):
        if decision.verdict is Verdict.DEFER and None not in (lane, asked.left_s):
            assert decision.eta_s is None or decision.eta_s * 1.5 < asked.left_s
        if decision.verdict is Verdict.SHED:
            assert 1.0 <= decision.retry_after_s < 3_600 * 1.5


def test_a_low_job_let_in_a_moment_before_does_not_stand_in_the_window_of_the_shed():
    admitter = Admitter(AdmitterPolicy(), now=0.0)
    stuck = LaneFacts(waiting=9, rate_per_s=0.0)
    low, high = Asked(0, 0), Asked(2, 250, left_s=1.0)

    def ask(asked, inflight):
        load = Load(inflight=inflight, limit=20)
        case = admitter.case(asked, "q", load, Needs(), stuck, 0.0)
        return admitter.decide(case, "q").verdict, admitter.window

    first, second = ask(low, 3), ask(high, 20)
    third = ask(low, 3)

    assert first == (Verdict.RUN, 1)
    assert second == (Verdict.SHED, 2)
    assert third == (Verdict.SHED, 2)


def test_a_window_forgets_after_its_time():
    admitter = Admitter(AdmitterPolicy(), now=0.0)
    stuck, full = LaneFacts(9, 0.0), Load(inflight=20, limit=20)
    case = admitter.case(Asked(2, 250, 1.0), "q", full, Needs(), stuck, 0.0)
    admitter.decide(case, "q")
    idle = Load(limit=20)

    admitter.roll(idle, now=0.6)
    case = admitter.case(Asked(0, 0), "q", idle, Needs(), stuck, 0.0)

    assert admitter.decide(case, "q").verdict is Verdict.RUN


def test_a_log_without_room_for_a_class_closes_it_to_lower_ones():
    admitter = Admitter(AdmitterPolicy(), now=0.0)
    admitter.refused("q", Priority.HIGH)
    full = Load(inflight=20, limit=20)

    case = admitter.case(Asked(0, 0), "q", full, Needs(), None, 0.0)

    assert admitter.decide(case, "q").verdict is Verdict.SHED


def test_load_raises_the_threshold_and_calm_lowers_it_again():
    admitter, full = Admitter(AdmitterPolicy(), now=0.0), Load(inflight=20, limit=20)
    for turn in range(1, 5):
        for step in range(100):
            case = admitter.case(Asked(0, step), "q", full, Needs(), None, 0.0)
            admitter.decide(case, "q")
        admitter.roll(full, now=turn * 0.5)
    risen = admitter.threshold

    admitter.roll(Load(limit=20), now=8.0)

    assert risen > 50
    assert admitter.threshold == 0


def test_slots_are_kept_free_for_what_cannot_wait():
    admitter = Admitter(AdmitterPolicy(), now=0.0)

    assert [admitter.slots(20, rank) for rank in range(4)] == [15, 18, 20, 20]
    assert admitter.slots(1, 0) == 1


def test_queueing_time_is_a_signal_of_its_own():
    admitter, load = Admitter(AdmitterPolicy(), now=0.0), Load(limit=20)
    for _ in range(10):
        admitter.ended(queued_s=0.1)

    admitter.roll(load, now=0.5)

    assert admitter.ratio > 0
