"""Completion: the next record, then the claim, then the delivery."""

from __future__ import annotations

import asyncio
import contextlib

from shifter.errors import StoreUnavailableError
from shifter.model.claim import JobState
from shifter.model.reason import Reason
from shifter.policy.delivery.retry import DeadLettered, Failed
from shifter.ports import Refused, Unknown
from tests.unit.work.items import Stages


@contextlib.asynccontextmanager
async def completing(stages):
    completer = stages.completer()
    task = asyncio.get_running_loop().create_task(completer.run())
    yield completer
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def state_of(stages, item):
    status = await stages.store.status(item.envelope.id)
    return None if status is None else status.state


async def test_a_success_is_recorded_settled_and_forgotten():
    stages = Stages()
    item = await stages.granted()

    async with completing(stages) as completer:
        completer.add_done(item)
        await completer.drained()

    assert await state_of(stages, item) is JobState.DONE
    assert stages.feed.settled == [item.delivery]
    assert item.fence == 0
    assert completer.pending == 0


async def test_a_retry_is_appended_before_its_delivery_is_settled():
    stages = Stages(attempts=3)
    item = await stages.granted()
    step = stages.state.next_steps.after(item, Failed("E"), None, stages.moment())
    order = []
    settle, hand_over = stages.feed.settle, stages.feed.hand_over

    async def noting_settle(deliveries):
        order.append("settle")
        await settle(deliveries)

    async def noting_hand_over(pairs, *, timeout_s):
        order.append("append")
        assert await state_of(stages, item) is JobState.RUNNING
        return await hand_over(pairs, timeout_s=timeout_s)

    stages.feed.settle, stages.feed.hand_over = noting_settle, noting_hand_over
    async with completing(stages) as completer:
        completer.add(step)
        await completer.drained()

    assert order == ["append", "settle"]
    assert await state_of(stages, item) is JobState.WAITING


async def test_a_record_that_the_log_did_not_take_is_appended_again():
    stages = Stages(attempts=3)
    item = await stages.granted()
    step = stages.state.next_steps.after(item, Failed("E"), None, stages.moment())
    stages.feed.answers = [Unknown("timed out"), Unknown("timed out")]

    async with completing(stages) as completer:
        completer.add(step)
        await stages.clock.elapse(0.1)
        assert stages.feed.settled == []
        await stages.clock.elapse(2.0)
        await completer.drained()

    assert len(stages.feed.records) == 3
    assert stages.feed.settled == [item.delivery]


async def test_a_dead_letter_that_is_too_large_is_cut():
    stages = Stages()
    item = await stages.granted()
    outcome = DeadLettered("because")
    step = stages.state.next_steps.after(item, outcome, None, stages.moment())
    too_large = Refused(Reason.TOO_LARGE, "too large")
    stages.feed.answers = [too_large] * 3

    async with completing(stages) as completer:
        completer.add(step)
        await stages.clock.elapse(10.0)
        await completer.drained()

    assert len(stages.feed.records) == 4
    assert stages.feed.records[-1].value is None or not stages.feed.records[-1].value
    assert await state_of(stages, item) is JobState.DEAD


async def test_a_log_that_refuses_this_clock_makes_the_worker_give_up():
    stages = Stages(attempts=3)
    item = await stages.granted()
    step = stages.state.next_steps.after(item, Failed("E"), None, stages.moment())
    stages.feed.answers = [Refused(Reason.CLOCK_REFUSED, "an hour ahead")]

    async with completing(stages) as completer:
        completer.add(step)
        await stages.clock.elapse(0.1)

    [error] = stages.gave_up
    assert "an hour ahead" in str(error)


async def test_an_end_whose_fence_is_old_settles_nothing_and_asks_again():
    stages = Stages()
    item = await stages.granted()
    item.fence -= 1

    async with completing(stages) as completer:
        completer.add_done(item)
        await completer.drained()

    assert stages.feed.settled == []
    assert item.has_succeeded
    assert len(stages.state.delayed) == 1


async def test_a_success_is_settled_now_and_recorded_when_the_store_is_back(
    monkeypatch,
):
    stages = Stages()
    item = await stages.granted()
    finish, failing = stages.store.finish, True

    async def flaky(updates):
        if failing:
            raise StoreUnavailableError("memory", "finish", "away")
        return await finish(updates)

    monkeypatch.setattr(stages.store, "finish", flaky)
    async with completing(stages) as completer:
        completer.add_done(item)
        await stages.clock.elapse(0.1)
        assert stages.feed.settled == [item.delivery]
        assert await state_of(stages, item) is JobState.RUNNING
        failing = False
        await stages.clock.elapse(1.0)

    assert await state_of(stages, item) is JobState.DONE
