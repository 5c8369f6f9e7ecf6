"""Options of one call, checked against its job."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from shifter import ConfigError, Priority
from shifter.model.job import Isolation, JobSpec
from shifter.produce.options import CallOptions, plan_call

SPEC = JobSpec(name="send", queue="mail", deadline_ms=60_000)


def plan(spec=SPEC, **options):
    return plan_call("shop", spec, CallOptions(**options))


def test_call_without_options_has_those_of_its_job():
    found = plan()

    assert found.lane == "shop.mail.normal"
    assert (found.delay_ms, found.due_ms, found.deadline_ms) == (None, None, 60_000)
    assert found.runs_here


def test_priority_of_a_call_chooses_the_lane():
    assert plan(priority=Priority.LOW).lane == "shop.mail.low"


@pytest.mark.parametrize(
    "options",
    [
        {"key": "ann"},
        {"idempotency_key": "order-7"},
        {"job_id": uuid.UUID(int=7)},
    ],
)
def test_call_that_needs_a_claim_or_an_order_does_not_run_here(options):
    assert not plan(**options).runs_here


def test_job_of_a_process_of_its_own_does_not_run_here():
    spec = JobSpec(name="send", queue="mail", isolation=Isolation.PROCESS)

    assert not plan(spec).runs_here


def test_due_time_is_rounded_up_to_a_millisecond():
    due_at = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)

    assert plan(due_at=due_at).due_ms == 1_767_225_600_001


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"priority": "LOW"}, "priority"),
        ({"delay": "1s", "due_at": datetime(2026, 1, 1, tzinfo=UTC)}, "delay"),
        ({"delay": "31d"}, "delay"),
        ({"delay": "60s"}, "delay"),
        ({"due_at": datetime(2026, 1, 1)}, "due_at"),  # without a zone
        ({"due_at": datetime(1969, 1, 1, tzinfo=UTC)}, "due_at"),
        ({"deadline": 0}, "deadline"),
        ({"key": ""}, "key"),
        ({"key": "a" * 256}, "key"),
        ({"idempotency_key": "a\nb"}, "idempotency_key"),
        ({"job_id": "seven"}, "job_id"),
    ],
)
def test_malformed_option_is_refused_by_name(options, field):
    with pytest.raises(ConfigError) as caught:
        plan(**options)

    assert caught.value.field == field
