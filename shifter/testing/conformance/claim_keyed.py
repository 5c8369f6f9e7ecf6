"""Claims under a user's idempotency key."""

from __future__ import annotations

from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimRequest,
    Finished,
    Granted,
    HandedOver,
)
from shifter.model.state import JobState
from shifter.testing.conformance.claim_bench import (
    ENDS,
    HELD,
    HELD_BUT_CANCELLED,
    HOUR_MS,
    KEEP_MS,
    LEASE_MS,
    ClaimBench,
    ask,
    end,
    granted,
    state_of,
)


class KeyedClaimConformance:
    """Claims under a user's idempotency key: the identity is not the job's id."""

    async def test_status_and_cancel_by_job_id_find_the_claim(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j1")

        assert await state_of(store, "j1") is JobState.RUNNING
        assert (await store.cancel("j1", keep_ms=KEEP_MS)).state is JobState.RUNNING
        renewed = await store.renew([("mail:k", grant.fence)], lease_ms=LEASE_MS)
        assert renewed == [HELD_BUT_CANCELLED]

    async def test_a_keyed_job_cancelled_before_it_ran_never_runs(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.cancel("j1", keep_ms=KEEP_MS)

        assert await ask(store, "mail:k", job_id="j1") == Cancelled()
        assert isinstance(await ask(store, "mail:k", job_id="j2"), Granted)

    async def test_a_keyed_job_cancelled_between_two_turns_runs_no_more(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j1")
        waiting = JobState.WAITING
        await end(store, grant.fence, waiting, identity="mail:k", turn=2)

        assert (await store.cancel("j1", keep_ms=KEEP_MS)).state is JobState.CANCELLED
        assert await ask(store, "mail:k", job_id="j1", turn=2) == Cancelled()

    async def test_the_same_keyed_job_goes_on_like_a_plain_one(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j1")
        waiting = JobState.WAITING
        await end(store, grant.fence, waiting, identity="mail:k", turn=2)

        assert await ask(store, "mail:k", job_id="j1") == HandedOver(2)
        again = await granted(store, "mail:k", job_id="j1", turn=2)
        assert again.fence > grant.fence

    async def test_another_job_waits_while_the_first_runs_or_waits(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j1")

        running = await ask(store, "mail:k", job_id="j2", turn=9)
        waiting_state = JobState.WAITING
        await end(store, grant.fence, waiting_state, identity="mail:k", turn=2)
        waiting = await ask(store, "mail:k", job_id="j2", turn=9)

        assert isinstance(running, Busy)
        assert LEASE_MS - 5_000 < running.retry_in_ms <= LEASE_MS
        assert isinstance(waiting, Busy)
        assert 0 < waiting.retry_in_ms <= 1_000

    async def test_another_job_does_not_take_over_from_a_vanished_worker(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await granted(store, "mail:k", job_id="j1")
        await claim_bench.advance(2 * LEASE_MS)

        other = await ask(store, "mail:k", job_id="j2")
        first = await ask(store, "mail:k", job_id="j1")

        assert isinstance(other, Busy)
        assert 0 < other.retry_in_ms <= 1_000
        assert isinstance(first, Granted)
        assert first.losses == 1

    async def test_another_job_ends_as_the_first_ended(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        for state in (*ENDS, JobState.CANCELLED):
            key = f"mail:{state}"
            grant = await granted(store, key, job_id="j1")
            await end(store, grant.fence, state, identity=key)

            assert await ask(store, key, job_id="j2") == Finished(state)

    async def test_cancelling_the_other_job_leaves_the_first_alone(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j1")
        await ask(store, "mail:k", job_id="j2")

        status = await store.cancel("j2", keep_ms=KEEP_MS)

        assert status[:2] == ("j2", JobState.CANCELLED)
        assert await ask(store, "mail:k", job_id="j2") == Cancelled()
        assert await state_of(store, "j1") is JobState.RUNNING
        renewed = await store.renew([("mail:k", grant.fence)], lease_ms=LEASE_MS)
        assert renewed == [HELD]

    async def test_a_job_id_leads_to_its_claim_for_as_long_as_that_lives(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j1")
        for _ in range(3):
            await claim_bench.advance(HOUR_MS)
            await store.renew([("mail:k", grant.fence)], lease_ms=LEASE_MS)
        assert await state_of(store, "j1") is JobState.RUNNING

        await end(store, grant.fence, identity="mail:k", keep_ms=24 * HOUR_MS)

        await claim_bench.advance(23 * HOUR_MS)
        assert await state_of(store, "j1") is JobState.DONE
        await claim_bench.advance(HOUR_MS)
        assert await state_of(store, "j1") is None

    async def test_a_job_id_of_a_keyed_job_cannot_overwrite_a_claim(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "j1")

        await ask(store, "mail:k", job_id="j1")

        assert await end(store, grant.fence, identity="j1") is True

    async def test_plain_and_keyed_jobs_share_a_batch(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.cancel("j1", keep_ms=KEEP_MS)
        requests = [
            ClaimRequest("a", "a", 1, 1),
            ClaimRequest("mail:1", "j1", 1, 1),
            ClaimRequest("mail:2", "j2", 2, 1),
            ClaimRequest("b", "b", 2, 2),
            ClaimRequest("mail:3", "j3", 1, 1),
        ]

        answers = await store.claim(requests, owner="w1", lease_ms=LEASE_MS)

        kinds = [type(answer) for answer in answers]
        assert kinds == [Granted, Cancelled, Granted, Granted, Granted]
        ids = ("a", "j1", "j2", "b", "j3")
        states = [await state_of(store, job_id) for job_id in ids]
        running = JobState.RUNNING
        assert states == [running, JobState.CANCELLED, running, running, running]
