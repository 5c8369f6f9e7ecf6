"""What follows an attempt, as records and updates of claims."""

from __future__ import annotations

import pytest

from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.policy.delivery.retry import (
    DeadLettered,
    Discarded,
    Expired,
    Failed,
    Interrupted,
    RetryAsked,
    ThrottledOutcome,
    WasCancelled,
)
from shifter.wire.headers import read_headers
from shifter.work.item import ItemRefusal
from shifter.work.next_step import NextSteps
from tests.unit.work.items import Stages


def envelope_of(record):
    return read_headers(record.headers).envelope


async def test_a_failure_goes_on_as_the_next_attempt_and_the_next_turn():
    stages = Stages(attempts=3)
    item = await stages.granted()

    step = stages.state.next_steps.after(item, Failed("E"), None, stages.moment())

    envelope = envelope_of(step.record)
    assert (step.state, step.settles) == (JobState.WAITING, True)
    assert (envelope.attempt, envelope.turn, envelope.id) == (2, 2, item.envelope.id)
    assert envelope.due_ms > stages.clock.epoch_ms()
    assert (step.update.attempt, step.update.turn) == (2, 2)


async def test_a_throttle_keeps_the_attempt_and_takes_the_next_turn():
    stages = Stages(attempts=3)
    item = await stages.granted()

    outcome = ThrottledOutcome(700)
    step = stages.state.next_steps.after(item, outcome, None, stages.moment())

    envelope = envelope_of(step.record)
    assert (envelope.attempt, envelope.turn) == (1, 2)
    assert envelope.due_ms == stages.clock.epoch_ms() + 700


async def test_the_last_failure_becomes_a_dead_letter():
    stages = Stages(attempts=1)
    item = await stages.granted()

    step = stages.state.next_steps.after(item, Failed("E"), None, stages.moment())

    assert step.state is JobState.DEAD
    assert step.record.topic == "shop.default.dlt"
    assert step.refusal.reason is Reason.ATTEMPTS_EXHAUSTED
    assert step.update.state is JobState.DEAD


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Discarded("old"), JobState.DISCARDED),
        (Expired(), JobState.EXPIRED),
        (WasCancelled(), JobState.CANCELLED),
    ],
)
async def test_other_ends_are_recorded_without_a_record(outcome, state):
    stages = Stages()
    item = await stages.granted()

    step = stages.state.next_steps.after(item, outcome, None, stages.moment())

    assert (step.state, step.record, step.update.state) == (state, None, state)


async def test_an_interrupted_attempt_is_left_to_another_worker_uncharged():
    stages = Stages()
    item = await stages.granted()

    step = stages.state.next_steps.after(item, Interrupted(), None, stages.moment())

    assert (step.settles, step.record) == (False, None)
    assert (step.update.state, step.update.attempt) == (JobState.WAITING, 1)


async def test_a_keyed_job_is_retried_in_its_place():
    stages = Stages(attempts=3)
    item = await stages.granted(key="customer-1")

    outcome = RetryAsked(1_500)
    step = stages.state.next_steps.after(item, outcome, None, stages.moment())

    assert (step.settles, step.record, step.wait_s) == (False, None, 1.5)
    assert item.attempt == 2


async def test_a_keyed_job_that_holds_up_its_key_for_too_long_becomes_a_dead_letter():
    stages = Stages(attempts=9, max_block="10s")
    item = await stages.granted(key="customer-1")
    steps = stages.state.next_steps

    first = steps.after(item, RetryAsked(6_000), None, stages.moment())
    stages.clock.advance(6.0)
    second = steps.after(item, RetryAsked(6_000), None, stages.moment())

    assert first.state is JobState.WAITING
    assert second.refusal.reason is Reason.BLOCKED_TOO_LONG


async def test_a_job_of_an_unknown_type_waits_and_then_becomes_a_dead_letter():
    stages = Stages()
    steps, refusal = (
        NextSteps("w1", grace_ms=60_000),
        ItemRefusal(
            Reason.UNKNOWN_JOB, "no job is registered as 'new'", is_misfit=True
        ),
    )
    item = stages.item("new")

    waits = steps.refused(item, refusal, None, stages.moment())
    stages.clock.advance(61.0)
    ends = steps.refused(item, refusal, None, stages.moment())

    assert (waits.state, waits.misfit) == (JobState.WAITING, refusal)
    assert envelope_of(waits.record).turn == 1
    assert ends.state is JobState.DEAD
    assert "waited 61 s" in ends.refusal.detail


async def test_a_dead_letter_keeps_the_reason_that_the_handler_gave():
    stages = Stages()
    item = await stages.granted()

    outcome = DeadLettered("no such order")
    step = stages.state.next_steps.after(item, outcome, None, stages.moment())

    assert step.refusal == ItemRefusal(Reason.DEAD_LETTERED, "no such order")
