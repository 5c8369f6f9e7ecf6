"""Cancelling plain jobs."""

from __future__ import annotations

from shifter.model.claim import Busy, Cancelled, Granted, HandedOver, JobState
from shifter.testing.conformance.claim_bench import (
    ENDS,
    HELD_BUT_CANCELLED,
    KEEP_MS,
    LEASE_MS,
    ClaimBench,
    ask,
    end,
    granted,
    state_of,
)


class CancelConformance:
    """Cancelling plain jobs."""

    async def test_a_job_cancelled_before_it_ran_never_runs(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()

        status = await store.cancel("j1", keep_ms=KEEP_MS)

        assert status[:4] == ("j1", JobState.CANCELLED, 1, None)
        assert await ask(store) == Cancelled()
        assert await ask(store, turn=3) == Cancelled()

    async def test_a_job_cancelled_between_two_turns_runs_no_more(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await end(store, grant.fence, JobState.WAITING, turn=2)

        status = await store.cancel("j1", keep_ms=KEEP_MS)

        assert status.state is JobState.CANCELLED
        assert await ask(store, turn=2) == Cancelled()

    async def test_of_a_cancelled_job_only_the_newest_turn_is_told(
        self, claim_bench: ClaimBench
    ) -> None:
        """Else a record delivered twice would end the job twice."""
        store = claim_bench.open()
        grant = await granted(store)
        await end(store, grant.fence, JobState.WAITING, turn=2)
        await store.cancel("j1", keep_ms=KEEP_MS)

        assert await ask(store, turn=1) == HandedOver(2)

    async def test_a_running_job_is_asked_to_stop(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)

        status = await store.cancel("j1", keep_ms=KEEP_MS)

        assert status[:4] == ("j1", JobState.RUNNING, 1, "w1")
        renewed = await store.renew([("j1", grant.fence)], lease_ms=LEASE_MS)
        assert renewed == [HELD_BUT_CANCELLED]
        assert isinstance(await ask(store), Busy)

    async def test_a_running_job_may_end_as_it_likes_though_cancelled(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        for state in (*ENDS, JobState.CANCELLED):
            grant = await granted(store, state)
            await store.cancel(state, keep_ms=KEEP_MS)

            assert await end(store, grant.fence, state, identity=state)
            assert await state_of(store, state) is state

    async def test_a_cancelled_job_that_would_go_on_later_ends(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await store.cancel("j1", keep_ms=KEEP_MS)

        for _ in range(2):  # also when the first answer was lost
            waiting = JobState.WAITING
            assert await end(store, grant.fence, waiting, turn=2, keep_ms=1_000)

        assert await state_of(store) is JobState.CANCELLED
        assert await ask(store, turn=1) == HandedOver(2)
        await claim_bench.advance(KEEP_MS - 10_000)
        assert await ask(store, turn=2) == Cancelled()

    async def test_a_cancelled_job_whose_worker_vanished_ends(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await store.cancel("j1", keep_ms=KEEP_MS)
        await claim_bench.advance(LEASE_MS)

        assert await ask(store) == Cancelled()
        assert await state_of(store) is JobState.CANCELLED
        assert await end(store, grant.fence) is False

    async def test_a_cancel_survives_renewals(self, claim_bench: ClaimBench) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await store.cancel("j1", keep_ms=KEEP_MS)
        for _ in range(3):
            await store.renew([("j1", grant.fence)], lease_ms=LEASE_MS)
        await claim_bench.advance(LEASE_MS)

        assert await ask(store) == Cancelled()

    async def test_an_ended_job_is_not_cancelled(self, claim_bench: ClaimBench) -> None:
        store = claim_bench.open()
        for state in ENDS:
            grant = await granted(store, state)
            await end(store, grant.fence, state, identity=state)

            assert (await store.cancel(state, keep_ms=KEEP_MS)).state is state

    async def test_a_cancel_is_remembered_for_its_keep_time(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.cancel("j1", keep_ms=KEEP_MS)

        await claim_bench.advance(KEEP_MS - 5_000)
        assert await ask(store) == Cancelled()
        await claim_bench.advance(5_000)
        assert isinstance(await ask(store), Granted)
