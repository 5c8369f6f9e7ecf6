"""Claims under a user's idempotency key."""

from __future__ import annotations

from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimRequest,
    Finished,
    Granted,
    HandedOver,
    JobState,
)
from shifter.testing.conformance.claim_bench import (
    HELD,
    HELD_BUT_CANCELLED,
    HOUR_MS,
    LEASE_MS,
    WITHOUT_EFFECT,
    ClaimSuite,
    ask,
    cancel,
    end,
    granted,
    renew,
    state_of,
)


class KeyedClaimConformance(ClaimSuite):
    """Claims under a user's idempotency key: the identity is not the job's id."""

    async def test_status_and_cancel_by_job_id_find_the_claim(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")

        assert await state_of(self.store, "j1") is JobState.RUNNING
        assert (await cancel(self.store)).state is JobState.RUNNING
        assert await renew(self.store, grant.fence, "mail:k") == HELD_BUT_CANCELLED

    async def test_a_keyed_job_cancelled_before_it_ran_never_runs(self) -> None:
        await cancel(self.store)

        assert await ask(self.store, "mail:k", job_id="j1") == Cancelled()
        assert isinstance(await ask(self.store, "mail:k", job_id="j2"), Granted)

    async def test_a_keyed_job_cancelled_between_two_turns_runs_no_more(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")
        await end(self.store, grant.fence, JobState.WAITING, identity="mail:k", turn=2)

        assert (await cancel(self.store)).state is JobState.CANCELLED
        assert await ask(self.store, "mail:k", job_id="j1", turn=2) == Cancelled()

    async def test_the_same_keyed_job_goes_on_like_a_plain_one(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")
        await end(self.store, grant.fence, JobState.WAITING, identity="mail:k", turn=2)

        assert await ask(self.store, "mail:k", job_id="j1") == HandedOver(2)
        again = await granted(self.store, "mail:k", job_id="j1", turn=2)
        assert again.fence > grant.fence

    async def test_another_job_waits_while_the_first_runs_or_waits(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")

        running = await ask(self.store, "mail:k", job_id="j2", turn=9)
        await end(self.store, grant.fence, JobState.WAITING, identity="mail:k", turn=2)
        waiting = await ask(self.store, "mail:k", job_id="j2", turn=9)

        assert isinstance(running, Busy)
        assert LEASE_MS - 5_000 < running.retry_in_ms <= LEASE_MS
        assert isinstance(waiting, Busy)
        assert 0 < waiting.retry_in_ms <= 1_000

    async def test_another_job_does_not_take_over_from_a_vanished_worker(self) -> None:
        await granted(self.store, "mail:k", job_id="j1")
        await self.bench.advance(2 * LEASE_MS)

        other = await ask(self.store, "mail:k", job_id="j2")
        first = await ask(self.store, "mail:k", job_id="j1")

        assert isinstance(other, Busy)
        assert 0 < other.retry_in_ms <= 1_000
        assert isinstance(first, Granted)
        assert first.losses == 1

    async def test_another_job_is_done_where_the_first_is_done(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")
        await end(self.store, grant.fence, identity="mail:k")

        assert await ask(self.store, "mail:k", job_id="j2") == Finished(JobState.DONE)
        assert await state_of(self.store, "j2") is JobState.DONE

    async def test_a_key_whose_job_had_no_effect_admits_the_next_job(self) -> None:
        store, other = self.bench.open(), self.bench.open()
        for state in WITHOUT_EFFECT:
            key, first, second = f"mail:{state}", f"1{state}", f"2{state}"
            grant = await granted(store, key, job_id=first)
            assert isinstance(await ask(store, key, job_id=second), Busy)
            await end(store, grant.fence, state, identity=key)

            next_one = await ask(other, key, job_id=second)

            assert isinstance(next_one, Granted), state
            assert next_one.fence > grant.fence
            assert next_one.losses == 0
            assert await state_of(store, first) is state
            assert await state_of(store, second) is JobState.RUNNING

    async def test_a_job_without_effect_stays_ended_when_its_key_is_taken(
        self,
    ) -> None:
        """A second delivery of its record or a second end does not change that."""
        store, other = self.bench.open(), self.bench.open()
        for state in WITHOUT_EFFECT:
            key, first, second = f"mail:{state}", f"1{state}", f"2{state}"
            grant = await granted(store, key, job_id=first)
            await end(store, grant.fence, state, identity=key)
            again = await ask(store, key, job_id=first)
            second_grant = await granted(other, key, job_id=second)
            late = await ask(store, key, job_id=first)

            ended = Cancelled() if state is JobState.CANCELLED else Finished(state)
            assert again == late == ended
            assert await end(store, grant.fence, state, identity=key) is False
            assert (await cancel(store, first)).state is state
            assert await end(other, second_grant.fence, identity=key) is True
            assert await state_of(store, second) is JobState.DONE
            assert await state_of(store, first) is state

    async def test_one_job_after_another_may_fail_until_one_is_done(self) -> None:
        for number, state in enumerate((*WITHOUT_EFFECT, JobState.DONE)):
            grant = await granted(self.store, "mail:k", job_id=f"j{number}")
            await end(self.store, grant.fence, state, identity="mail:k")

        assert await ask(self.store, "mail:k", job_id="j9") == Finished(JobState.DONE)
        states = [await state_of(self.store, f"j{n}") for n in range(5)]
        assert states == [*WITHOUT_EFFECT, JobState.DONE]

    async def test_a_keyed_job_cancelled_between_turns_frees_its_key(self) -> None:
        store, other = self.bench.open(), self.bench.open()
        grant = await granted(store, "mail:k", job_id="j1")
        await end(store, grant.fence, JobState.WAITING, identity="mail:k", turn=2)
        await cancel(other)

        assert isinstance(await ask(store, "mail:k", job_id="j2"), Granted)
        assert await ask(store, "mail:k", job_id="j1", turn=2) == Cancelled()
        assert await state_of(store, "j1") is JobState.CANCELLED

    async def test_a_keyed_job_cancelled_while_it_runs_frees_its_key(self) -> None:
        """The job would go on with a later turn; the cancel ends it with this one."""
        store, other = self.bench.open(), self.bench.open()
        grant = await granted(store, "mail:k", job_id="j1")
        await cancel(other)
        await end(store, grant.fence, JobState.WAITING, identity="mail:k", turn=2)

        assert isinstance(await ask(store, "mail:k", job_id="j2"), Granted)
        assert await ask(store, "mail:k", job_id="j1", turn=2) == Cancelled()
        assert await state_of(store, "j1") is JobState.CANCELLED

    async def test_a_job_that_waits_for_another_of_its_key_is_waiting(self) -> None:
        await granted(self.store, "mail:k", job_id="j1")
        await ask(self.store, "mail:k", job_id="j2")

        assert await state_of(self.store, "j2") is JobState.WAITING

    async def test_cancelling_the_other_job_leaves_the_first_alone(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")
        await ask(self.store, "mail:k", job_id="j2")

        status = await cancel(self.store, "j2")

        assert status[:2] == ("j2", JobState.CANCELLED)
        assert await ask(self.store, "mail:k", job_id="j2") == Cancelled()
        assert await state_of(self.store, "j1") is JobState.RUNNING
        assert await renew(self.store, grant.fence, "mail:k") == HELD

    async def test_a_job_id_leads_to_its_claim_for_as_long_as_that_lives(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j1")
        for _ in range(3):
            await self.bench.advance(HOUR_MS)
            await renew(self.store, grant.fence, "mail:k")
        assert await state_of(self.store, "j1") is JobState.RUNNING

        await end(self.store, grant.fence, identity="mail:k", keep_ms=24 * HOUR_MS)

        await self.bench.advance(23 * HOUR_MS)
        assert await state_of(self.store, "j1") is JobState.DONE
        await self.bench.advance(HOUR_MS)
        assert await state_of(self.store, "j1") is None

    async def test_a_job_id_of_a_keyed_job_cannot_overwrite_a_claim(self) -> None:
        grant = await granted(self.store, "j1")

        await ask(self.store, "mail:k", job_id="j1")

        assert await end(self.store, grant.fence, identity="j1") is True

    async def test_plain_and_keyed_jobs_share_a_batch(self) -> None:
        await cancel(self.store)
        requests = [
            ClaimRequest("a", "a", 1, 1),
            ClaimRequest("mail:1", "j1", 1, 1),
            ClaimRequest("mail:2", "j2", 2, 1),
            ClaimRequest("b", "b", 2, 2),
            ClaimRequest("mail:3", "j3", 1, 1),
        ]

        answers = await self.store.claim(requests, owner="w1", lease_ms=LEASE_MS)

        kinds = [type(answer) for answer in answers]
        assert kinds == [Granted, Cancelled, Granted, Granted, Granted]
        ids = ("a", "j1", "j2", "b", "j3")
        states = [await state_of(self.store, job_id) for job_id in ids]
        running = JobState.RUNNING
        assert states == [running, JobState.CANCELLED, running, running, running]
