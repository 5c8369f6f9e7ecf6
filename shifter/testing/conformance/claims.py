"""Suites of a claim store: its cancels and its waiting records; the door to the others.

The rules of a claim store are `shifter.policy.delivery.claim`. Derive from each suite
and give it the fixture ``claim_bench``:

    class TestMyClaims(ClaimStoreConformance):
        @pytest.fixture
        async def claim_bench(self): ...
"""

from __future__ import annotations

from shifter.model.claim import (
    Busy,
    Cancelled,
    Granted,
    HandedOver,
    JobState,
    WaitingJobs,
)
from shifter.testing.conformance.claim_bench import (
    ENDS,
    HELD_BUT_CANCELLED,
    KEEP_MS,
    LEASE_MS,
    ClaimBench,
    ClaimSuite,
    ask,
    cancel,
    end,
    granted,
    renew,
    state_of,
)
from shifter.testing.conformance.claim_keyed import KeyedClaimConformance
from shifter.testing.conformance.claim_plain import ClaimStoreConformance

__all__ = [
    "CancelConformance",
    "ClaimBench",
    "ClaimStoreConformance",
    "KeyedClaimConformance",
    "WaitingConformance",
]

_PLAIN = WaitingJobs(["j1"], KEEP_MS)
_KEYED = WaitingJobs(["j1"], KEEP_MS, "mail:k")


class CancelConformance(ClaimSuite):
    """Cancels of plain jobs; needs the fixture ``claim_bench``."""

    async def test_a_job_cancelled_before_it_ran_never_runs(self) -> None:
        status = await cancel(self.store)

        assert status[:4] == ("j1", JobState.CANCELLED, 1, None)
        assert await ask(self.store) == Cancelled()
        assert await ask(self.store, turn=3) == Cancelled()

    async def test_a_job_cancelled_between_two_turns_runs_no_more(self) -> None:
        grant = await granted(self.store)
        await end(self.store, grant.fence, JobState.WAITING, turn=2)

        status = await cancel(self.store)

        assert status.state is JobState.CANCELLED
        assert await ask(self.store, turn=2) == Cancelled()

    async def test_only_the_newest_turn_of_a_job_is_answered_cancelled(
        self,
    ) -> None:
        """Otherwise a record that is delivered twice would end the job twice."""
        grant = await granted(self.store)
        await end(self.store, grant.fence, JobState.WAITING, turn=2)
        await cancel(self.store)

        assert await ask(self.store, turn=1) == HandedOver(2)

    async def test_a_cancelled_job_that_runs_is_asked_to_stop(self) -> None:
        grant = await granted(self.store)

        status = await cancel(self.store)

        assert status[:4] == ("j1", JobState.RUNNING, 1, "w1")
        assert await renew(self.store, grant.fence) == HELD_BUT_CANCELLED
        assert isinstance(await ask(self.store), Busy)

    async def test_a_running_job_may_end_in_any_state_after_a_cancel(self) -> None:
        for state in (*ENDS, JobState.CANCELLED):
            grant = await granted(self.store, state)
            await cancel(self.store, state)

            assert await end(self.store, grant.fence, state, identity=state)
            assert await state_of(self.store, state) is state

    async def test_a_cancelled_job_that_would_go_on_later_ends(self) -> None:
        grant = await granted(self.store)
        await cancel(self.store)

        for _ in range(2):  # the second call stands for one after a lost answer
            assert await end(
                self.store, grant.fence, JobState.WAITING, turn=2, keep_ms=1_000
            )

        assert await state_of(self.store) is JobState.CANCELLED
        assert await ask(self.store, turn=1) == HandedOver(2)
        await self.bench.advance(KEEP_MS - 10_000)
        assert await ask(self.store, turn=2) == Cancelled()

    async def test_a_cancelled_job_whose_worker_vanished_ends(self) -> None:
        grant = await granted(self.store)
        await cancel(self.store)
        await self.bench.advance(LEASE_MS)

        assert await ask(self.store) == Cancelled()
        assert await state_of(self.store) is JobState.CANCELLED
        assert await end(self.store, grant.fence) is False

    async def test_a_cancel_survives_renewals(self) -> None:
        grant = await granted(self.store)
        await cancel(self.store)
        for _ in range(3):
            await renew(self.store, grant.fence)
        await self.bench.advance(LEASE_MS)

        assert await ask(self.store) == Cancelled()

    async def test_an_ended_job_is_not_cancelled(self) -> None:
        for state in ENDS:
            grant = await granted(self.store, state)
            await end(self.store, grant.fence, state, identity=state)

            assert (await cancel(self.store, state)).state is state

    async def test_a_cancel_is_remembered_for_its_keep_time(self) -> None:
        await cancel(self.store)

        await self.bench.advance(KEEP_MS - 5_000)
        assert await ask(self.store) == Cancelled()
        await self.bench.advance(5_000)
        assert isinstance(await ask(self.store), Granted)


class WaitingConformance(ClaimSuite):
    """Records of accepted jobs before their first claim; needs ``claim_bench``."""

    async def test_accepted_jobs_wait_until_their_keep_time_is_over(self) -> None:
        longer = WaitingJobs(["j2"], 3 * KEEP_MS)
        assert await self.store.add_waiting([_PLAIN, longer]) == 0
        assert await self.store.add_waiting([]) == 0

        found = await self.bench.open().status("j1")
        assert found is not None
        assert found[:4] == ("j1", JobState.WAITING, 0, None)
        await self.bench.advance(KEEP_MS + 1)
        assert await state_of(self.store, "j1") is None
        assert await state_of(self.store, "j2") is JobState.WAITING
        assert await state_of(self.store, "j3") is None

    async def test_an_expired_waiting_record_can_be_written_again(self) -> None:
        await self.store.add_waiting([_PLAIN])
        await self.bench.advance(KEEP_MS + 1)
        await self.store.add_waiting([_PLAIN])

        assert await state_of(self.store) is JobState.WAITING

    async def test_a_waiting_job_is_granted_like_one_without_a_record(self) -> None:
        await self.store.add_waiting([_PLAIN, WaitingJobs(["j2"], KEEP_MS)])

        first, later = (
            await granted(self.store),
            await ask(self.store, "j2", turn=3, attempt=2),
        )

        assert isinstance(later, Granted)
        assert first.losses == later.losses == 0
        assert await state_of(self.store) is JobState.RUNNING
        assert await end(self.store, first.fence) is True
        assert await state_of(self.store) is JobState.DONE

    async def test_a_waiting_record_never_replaces_a_claim_or_an_end(
        self,
    ) -> None:
        grant = await granted(self.store)
        await self.store.add_waiting([_PLAIN])
        assert await state_of(self.store) is JobState.RUNNING

        await end(self.store, grant.fence)
        await self.store.add_waiting([_PLAIN, _KEYED])
        assert await state_of(self.store) is JobState.DONE

    async def test_a_waiting_job_can_be_cancelled(self) -> None:
        await self.store.add_waiting([_PLAIN])

        assert (await cancel(self.store)).state is JobState.CANCELLED
        await self.store.add_waiting([_PLAIN])
        assert await ask(self.store) == Cancelled()

    async def test_a_keyed_job_waits_and_is_found_by_its_id_to_its_end(self) -> None:
        await self.store.add_waiting([_KEYED])
        assert await state_of(self.store) is JobState.WAITING

        grant = await granted(self.store, "mail:k", job_id="j1")
        assert await state_of(self.store) is JobState.RUNNING
        await end(self.store, grant.fence, identity="mail:k")
        assert await state_of(self.store) is JobState.DONE
        await self.bench.advance(KEEP_MS + 1)
        assert await state_of(self.store) is None

    async def test_a_keyed_job_without_effect_is_found_by_its_id(
        self,
    ) -> None:
        await self.store.add_waiting([_KEYED])
        grant = await granted(self.store, "mail:k", job_id="j1")
        await end(self.store, grant.fence, JobState.DEAD, identity="mail:k")
        await granted(self.store, "mail:k", job_id="j2")

        assert await state_of(self.store) is JobState.DEAD

    async def test_a_keyed_job_waits_while_another_one_of_its_key_runs(self) -> None:
        grant = await granted(self.store, "mail:k", job_id="j2")
        await self.store.add_waiting([_KEYED])
        assert await state_of(self.store) is JobState.WAITING
        assert isinstance(await ask(self.store, "mail:k", job_id="j1"), Busy)

        await end(self.store, grant.fence, identity="mail:k")
        assert await state_of(self.store) is JobState.DONE

    async def test_a_keyed_waiting_job_can_be_cancelled_alone(self) -> None:
        await self.store.add_waiting([_KEYED])

        assert (await cancel(self.store)).state is JobState.CANCELLED
        assert await state_of(self.store) is JobState.CANCELLED
        assert await ask(self.store, "mail:k", job_id="j1") == Cancelled()
        assert isinstance(await ask(self.store, "mail:k", job_id="j2"), Granted)

    async def test_many_jobs_and_odd_ids_wait_each_under_its_own(self) -> None:
        ids = [f"{n:08x}-aaaa-7000-8000-{n * 7:012x}" for n in range(1_500)]
        odd = ["a b", "{x}", "#1", "\N{SNOWMAN}", "y" * 200]
        assert await self.store.add_waiting([WaitingJobs([*ids, *odd], KEEP_MS)]) == 0

        for job_id in (*ids[::100], *odd):
            assert await state_of(self.store, job_id) is JobState.WAITING
        assert (
            await state_of(self.store, "00000001-aaaa-7000-8000-000000000008") is None
        )

    async def test_an_unclaimed_end_replaces_the_waiting_record(
        self,
    ) -> None:
        await self.store.add_waiting([_PLAIN])
        assert await end(self.store, 0) is True
        assert await state_of(self.store) is JobState.DONE

        assert await end(self.store, 0, identity="j2") is False
        assert await state_of(self.store, "j2") is None

    async def test_an_unclaimed_end_replaces_no_claim_and_no_later_turn(
        self,
    ) -> None:
        await self.store.add_waiting([_PLAIN])
        grant = await granted(self.store)
        assert await end(self.store, 0) is False
        assert await state_of(self.store) is JobState.RUNNING

        await end(self.store, grant.fence, JobState.WAITING, turn=2)
        assert await end(self.store, 0) is False
        assert await state_of(self.store) is JobState.WAITING
