"""No class is shed while a lower one is let in: on the answers, whatever the order."""

from __future__ import annotations

from hypothesis import given, strategies as st

from shifter.model.lane import Priority
from shifter.policy.admission.admitter import AdmissionPolicy, Admitter
from shifter.policy.admission.input import AdmissionInput, Decision, Load, Verdict
from shifter.policy.admission.lane_outlook import LaneFacts

LANES = st.one_of(
    st.none(),
    st.builds(
        LaneFacts,
        waiting=st.integers(0, 5_000),
        rate_per_s=st.one_of(st.none(), st.floats(0, 500)),
    ),
)
ASKED = st.builds(
    lambda priority, step, left_s, fallback, inline: AdmissionInput(
        priority.rank,
        priority.base_level + step,
        left_s,
        runs_here=inline,
        has_fallback=fallback,
        u=0.5,
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


def admitter_of(limit: int = 20, **load) -> Admitter:
    admitter = Admitter(AdmissionPolicy(), limit=limit, now=0.0)
    admitter.load = Load(limit=limit, **load)
    return admitter


def ask(admitter: Admitter, case: AdmissionInput, queue: str = "q") -> Verdict:
    admitter.look(case, queue)
    return admitter.decide(case, queue).verdict


def played(steps) -> list[tuple[int, str, int, Decision]]:
    """Window, queue, rank and decision of each, as a history has them."""
    admitter, now, history = admitter_of(), 0.0, []
    for asked, queue, load, lane, pause_s in steps:
        now += pause_s
        admitter.load, asked.lane = load, lane
        admitter.roll(now=now)
        admitter.look(asked, queue)
        decision = admitter.decide(asked, queue)
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
def test_what_is_deferred_was_expected_in_time_and_what_is_shed_has_a_time_to_retry(
    steps,
):
    for (asked, _, _, lane, _), (*_, decision) in zip(
        steps, played(steps), strict=True
    ):
        if decision.verdict is Verdict.DEFER and None not in (lane, asked.left_s):
            assert decision.eta_s is None or decision.eta_s * 1.5 < asked.left_s
        if decision.verdict is Verdict.SHED:
            assert 1.0 <= decision.retry_after_s < 3_600 * 1.5


def test_a_low_job_let_in_a_moment_before_does_not_stand_in_the_window_of_the_shed():
    admitter, stuck = admitter_of(inflight=3), LaneFacts(waiting=9, rate_per_s=0.0)
    low, high = (
        AdmissionInput(0, 0, lane=stuck),
        AdmissionInput(2, 250, left_s=1.0, lane=stuck),
    )

    first = ask(admitter, low), admitter.window
    admitter.load.inflight = 20
    second = ask(admitter, high), admitter.window
    admitter.load.inflight = 3
    third = ask(admitter, low), admitter.window

    assert first == (Verdict.RUN, 1)
    assert second == (Verdict.SHED, 2)
    assert third == (Verdict.SHED, 2)


def test_a_window_forgets_after_its_time():
    admitter, stuck = admitter_of(inflight=20), LaneFacts(9, 0.0)
    ask(admitter, AdmissionInput(2, 250, left_s=1.0, lane=stuck))
    admitter.load.inflight = 0

    admitter.roll(now=0.6)

    assert ask(admitter, AdmissionInput(0, 0, lane=stuck)) is Verdict.RUN


def test_a_log_without_room_for_a_class_closes_it_to_lower_ones():
    admitter = admitter_of(inflight=20)

    admitter.refused("q", Priority.HIGH)

    assert ask(admitter, AdmissionInput(0, 0)) is Verdict.SHED


def test_load_raises_the_threshold_and_calm_lowers_it_again():
    admitter = admitter_of(inflight=20)
    for turn in range(1, 5):
        for step in range(100):
            ask(admitter, AdmissionInput(0, step))
        admitter.roll(now=turn * 0.5)
    risen = admitter.threshold

    admitter.load.inflight = 0
    admitter.roll(now=8.0)

    assert risen > 50
    assert admitter.threshold == 0


def test_slots_are_kept_free_for_what_cannot_wait():
    assert admitter_of(20).slots == [15, 18, 20, 20]
    assert admitter_of(1).slots == [1, 1, 1, 1]


def test_after_critical_found_no_slot_one_more_is_kept_for_it_for_a_while():
    admitter = admitter_of(inflight=20)
    for turn in range(1, 4):
        ask(admitter, AdmissionInput(3, 350))
        admitter.roll(now=turn * 0.5)
    short = list(admitter.slots)
    for turn in range(100):
        admitter.roll(now=2.0 + turn * 0.5)

    assert short == [15, 17, 17, 20]
    assert admitter.slots == [15, 18, 20, 20]


@given(st.integers(1, 50), st.integers(1, 100))
def test_however_much_is_kept_each_class_has_a_slot(limit, windows):
    admitter = admitter_of(limit, inflight=limit)
    for turn in range(1, windows):
        ask(admitter, AdmissionInput(3, 350))
        admitter.roll(now=turn * 0.5)

    assert min(admitter.slots) >= 1
    assert admitter.slots[2] >= limit // 2
    assert admitter.slots[3] == limit


def test_queueing_time_is_a_signal_of_its_own():
    admitter = admitter_of()
    for _ in range(10):
        ask(admitter, AdmissionInput(2, 250, queued_s=0.1))

    admitter.roll(now=0.5)

    assert admitter.ratio > 0
