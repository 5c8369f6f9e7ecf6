"""Claims of one worker: asking, a store that is away, renewing."""

from __future__ import annotations

import asyncio
import contextlib

from shifter.errors import StoreUnavailableError
from shifter.model.claim import Cancelled, Finished, JobState
from shifter.work.attempt import Attempt, Stop
from shifter.work.next_step import ended_update
from tests.unit.work.items import Stages


def away(stages, monkeypatch):
    """Let the store fail; count the calls."""
    calls = []

    async def fail(requests, **_):
        calls.append(requests)
        raise StoreUnavailableError("memory", "claim", "away")

    monkeypatch.setattr(stages.store, "claim", fail)
    return calls


async def test_a_granted_item_runs_under_a_fence_and_a_second_one_waits():
    stages = Stages()
    item = stages.item()
    again = stages.item(id=item.envelope.id)

    first = await stages.state.claiming.ask([item])
    second = await stages.state.claiming.ask([again])

    assert first.run == [item]
    assert item.fence > 0
    assert [one for one, _ in second.wait] == [again]


async def test_a_job_that_has_ended_or_was_cancelled_is_settled_and_not_run():
    stages = Stages()
    done = await stages.granted()
    await stages.store.finish([ended_update(done, JobState.DONE)])
    stages.state.claiming.forget(done)
    cancelled = stages.item()
    await stages.store.cancel(cancelled.envelope.id, keep_ms=60_000)

    copy = stages.item(id=done.envelope.id)
    claimed = await stages.state.claiming.ask([copy, cancelled])

    assert claimed.run == claimed.wait == []
    answers = [type(answer) for _, answer in claimed.settle]
    assert answers == [Finished, Cancelled]


async def test_jobs_go_by_their_own_choice_while_the_store_is_away(monkeypatch):
    stages = Stages()
    stages.app.job(name="parks", claims="park")(_nothing)
    calls = away(stages, monkeypatch)
    proceeds, parks = stages.item(), stages.item("parks")

    claimed = await stages.state.claiming.ask([proceeds, parks])
    later = await stages.state.claiming.ask([stages.item()])

    assert claimed.run == [proceeds]
    assert [one for one, _ in claimed.wait] == [parks]
    assert len(later.run) == 1
    assert len(calls) == 1, "a store that is away is not asked for each batch"


async def test_a_lease_that_another_worker_was_granted_stops_the_attempt():
    stages = Stages()
    item = await stages.granted()
    attempt = Attempt(item, stages.clock, timeout_ms=60_000)
    attempt.begin(stages.clock.monotonic(), stages.clock.epoch_ms())
    # The lease fades while this process stands still, and another worker claims.
    stages.clock.advance(5.0)
    other = Stages()
    other.store = stages.store
    taken = await stages.store.claim([_request(item)], owner="another", lease_ms=60_000)
    assert taken[0].fence > item.fence

    task = asyncio.get_running_loop().create_task(stages.state.claiming.keep({attempt}))
    await stages.clock.elapse(0.5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert attempt.stopped is Stop.LEASE_LOST


async def test_a_cancel_reaches_the_attempt_with_its_next_renewal():
    stages = Stages()
    item = await stages.granted()
    attempt = Attempt(item, stages.clock, timeout_ms=60_000)
    attempt.begin(stages.clock.monotonic(), stages.clock.epoch_ms())
    await stages.store.cancel(item.envelope.id, keep_ms=60_000)

    task = asyncio.get_running_loop().create_task(stages.state.claiming.keep({attempt}))
    await stages.clock.elapse(0.5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert attempt.cancelled
    assert attempt.stopped is None


def _request(item):
    from shifter.model.claim import ClaimRequest

    return ClaimRequest(item.identity, item.envelope.id, item.turn, item.attempt)


async def _nothing() -> None: ...
