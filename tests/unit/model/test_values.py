"""The published names: the enums and small values of the model."""

from __future__ import annotations

import pytest

from shifter.model.answer import Deferred, Shed
from shifter.model.claim import JobState, claim_identity
from shifter.model.job import JobSpec
from shifter.model.lane import LEVELS_PER_PRIORITY, MAX_LEVEL, Priority
from shifter.model.reason import Reason


def test_priorities_are_ranked_with_a_hundred_levels_each():
    ranked = sorted(Priority, key=lambda priority: priority.rank)

    assert ranked == [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.CRITICAL]
    assert [priority.base_level for priority in ranked] == [0, 100, 200, 300]
    assert Priority.CRITICAL.base_level + LEVELS_PER_PRIORITY - 1 == MAX_LEVEL


def test_five_states_are_terminal():
    assert {state.value for state in JobState if state.is_terminal} == {
        "done",
        "dead",
        "expired",
        "cancelled",
        "discarded",
    }


def test_reasons_are_published_as_one_lower_case_word_each():
    assert all(reason.value.replace("_", "").islower() for reason in Reason)


def test_a_plain_job_is_its_id_and_a_users_key_counts_per_job_type():
    assert claim_identity("mail", "id-1", None) == "id-1"
    assert claim_identity("mail", "id-1", "k") == claim_identity("mail", "id-2", "k")
    assert claim_identity("mail", "id-1", "k") != claim_identity("sms", "id-1", "k")
    assert claim_identity("mail", "id-1", "") == "mail:"


def test_answers_can_be_matched_and_read_in_a_log():
    match Deferred("id-1", "shop.mail.low", 2.5):
        case Deferred(job_id, lane, eta_s):
            assert (job_id, lane, eta_s) == ("id-1", "shop.mail.low", 2.5)
    match Shed(0.5, job_id="id-2", reason=Reason.QUEUE_FULL, detail="full"):
        case Shed(retry_after_s):
            assert retry_after_s == pytest.approx(0.5)
    assert repr(Deferred("id-1", "l")) == "Deferred(job_id='id-1', lane='l')"
    assert "queue_full" in repr(Shed(None, job_id="i", reason=Reason.QUEUE_FULL))


def test_a_deferred_job_was_accepted_unless_said_otherwise():
    assert Deferred("id-1", "l").reason is Reason.ACCEPTED


def test_a_declaration_without_options_has_limits():
    spec = JobSpec(name="mail")

    assert spec.attempts == 4
    assert spec.timeout_ms == 60_000
    assert spec.deadline_ms is None
    assert spec.backoff_base_ms <= spec.backoff_cap_ms
