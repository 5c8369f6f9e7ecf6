"""The rules that the conformance suites cannot reach through a store."""

from __future__ import annotations

from shifter.model.claim import Busy, Cancelled, Granted, JobState
from shifter.policy.delivery.claim import (
    ClaimAsk,
    decide_claim,
    decide_renew,
)
from shifter.policy.delivery.claim_state import (
    Claim,
)

NOW = 1_767_225_600_000
LEASE_MS = 30_000


def running(**changes):
    claim = Claim(
        JobState.RUNNING,
        fence=NOW * 1_000,
        turn=2,
        attempt=2,
        losses=1,
        lease_end_ms=NOW + LEASE_MS,
        updated_ms=NOW,
        op="lost",
        owner="w1",
    )
    return claim._replace(**changes)


def ask(turn=2, **changes):
    return ClaimAsk(turn, turn, "w2", LEASE_MS, op="new")._replace(**changes)


def test_a_claim_that_was_never_answered_is_granted_again_without_a_loss():
    answer, kept = decide_claim(
        running(), ask(unanswered=frozenset({"lost"})), now=NOW + 10
    )

    assert isinstance(answer, Granted)
    assert answer.fence > running().fence
    assert answer.losses == 1
    assert (kept.claim.op, kept.claim.owner) == ("new", "w2")


def test_a_call_that_was_answered_holds_its_lease():
    answer, kept = decide_claim(
        running(op="other"), ask(unanswered=frozenset({"lost"})), now=NOW + 10
    )

    assert answer == Busy(LEASE_MS - 10)
    assert kept is None


def test_the_next_turn_of_an_unanswered_claim_does_not_wait_for_its_lease():
    answer, _ = decide_claim(
        running(), ask(turn=3, unanswered=frozenset({"lost"})), now=NOW
    )

    assert isinstance(answer, Granted)
    assert answer.losses == 0


def test_a_cancelled_claim_that_was_never_answered_ends_at_once():
    answer, kept = decide_claim(
        running(cancel_keep_ms=7), ask(unanswered=frozenset({"lost"})), now=NOW
    )

    assert answer == Cancelled()
    assert (kept.claim.state, kept.keep_ms) == (JobState.CANCELLED, 7)


def test_a_lease_lasts_its_length_and_not_the_jump_when_the_clock_goes_back():
    hour_back = NOW - 3_600_000

    answer, kept = decide_claim(running(), ask(), now=hour_back)

    assert answer == Busy(LEASE_MS)
    assert kept.claim.lease_end_ms == hour_back + LEASE_MS
    later, _ = decide_claim(kept.claim, ask(), now=hour_back + LEASE_MS)
    assert isinstance(later, Granted)
    assert later.fence > running().fence


def test_a_clock_jump_moves_only_what_is_running_for_this_job():
    other, kept = decide_claim(running(job_id="j9"), ask(), now=NOW - 3_600_000)

    assert isinstance(other, Busy)
    assert kept is None


def test_a_fence_that_was_never_granted_renews_nothing():
    answer, kept = decide_renew(
        running(), fence=running().fence + 1, lease_ms=LEASE_MS, now=NOW
    )

    assert not answer.held
    assert kept is None
