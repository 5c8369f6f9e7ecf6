"""Records of accepted jobs that no worker has claimed yet."""

from __future__ import annotations

from shifter.model.claim import Busy, Cancelled, Granted, JobState, WaitingJobs
from shifter.testing.conformance.claim_bench import (
    KEEP_MS,
    ClaimBench,
    ask,
    end,
    granted,
    state_of,
)

_PLAIN = WaitingJobs(["j1"], KEEP_MS)
_KEYED = WaitingJobs(["j1"], KEEP_MS, "mail:k")


class WaitingConformance:
    """Records of accepted jobs that no worker has claimed yet."""

    async def test_accepted_jobs_wait_until_their_keep_time_is_over(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        longer = WaitingJobs(["j2"], 3 * KEEP_MS)
        assert await store.add_waiting([_PLAIN, longer]) == 0
        assert await store.add_waiting([]) == 0

        found = await claim_bench.open().status("j1")
        assert found is not None
        assert found[:4] == ("j1", JobState.WAITING, 0, None)
        await claim_bench.advance(KEEP_MS + 1)
        assert await state_of(store, "j1") is None
        assert await state_of(store, "j2") is JobState.WAITING
        assert await state_of(store, "j3") is None

    async def test_a_record_that_faded_can_be_made_again(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_PLAIN])
        await claim_bench.advance(KEEP_MS + 1)
        await store.add_waiting([_PLAIN])

        assert await state_of(store) is JobState.WAITING

    async def test_a_waiting_job_is_granted_as_one_without_a_record(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_PLAIN, WaitingJobs(["j2"], KEEP_MS)])

        first, later = await granted(store), await ask(store, "j2", turn=3, attempt=2)

        assert isinstance(later, Granted)
        assert first.losses == later.losses == 0
        assert await state_of(store) is JobState.RUNNING
        assert await end(store, first.fence) is True
        assert await state_of(store) is JobState.DONE

    async def test_a_claim_or_an_end_is_never_replaced_by_a_waiting_record(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await store.add_waiting([_PLAIN])
        assert await state_of(store) is JobState.RUNNING

        await end(store, grant.fence)
        await store.add_waiting([_PLAIN, _KEYED])
        assert await state_of(store) is JobState.DONE

    async def test_a_waiting_job_can_be_cancelled(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_PLAIN])

        assert (await store.cancel("j1", keep_ms=KEEP_MS)).state is JobState.CANCELLED
        await store.add_waiting([_PLAIN])
        assert await ask(store) == Cancelled()

    async def test_a_keyed_job_waits_and_is_found_by_its_id_to_its_end(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_KEYED])
        assert await state_of(store) is JobState.WAITING

        grant = await granted(store, "mail:k", job_id="j1")
        assert await state_of(store) is JobState.RUNNING
        await end(store, grant.fence, identity="mail:k")
        assert await state_of(store) is JobState.DONE
        await claim_bench.advance(KEEP_MS + 1)
        assert await state_of(store) is None

    async def test_a_keyed_job_that_ended_without_effect_is_found_by_its_id(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_KEYED])
        grant = await granted(store, "mail:k", job_id="j1")
        await end(store, grant.fence, JobState.DEAD, identity="mail:k")
        await granted(store, "mail:k", job_id="j2")

        assert await state_of(store) is JobState.DEAD

    async def test_a_keyed_job_waits_while_another_one_of_its_key_runs(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, "mail:k", job_id="j2")
        await store.add_waiting([_KEYED])
        assert await state_of(store) is JobState.WAITING
        assert isinstance(await ask(store, "mail:k", job_id="j1"), Busy)

        await end(store, grant.fence, identity="mail:k")
        assert await state_of(store) is JobState.DONE

    async def test_a_keyed_waiting_job_can_be_cancelled_alone(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_KEYED])

        assert (await store.cancel("j1", keep_ms=KEEP_MS)).state is JobState.CANCELLED
        assert await state_of(store) is JobState.CANCELLED
        assert await ask(store, "mail:k", job_id="j1") == Cancelled()
        assert isinstance(await ask(store, "mail:k", job_id="j2"), Granted)

    async def test_many_jobs_and_odd_ids_wait_each_under_its_own(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        ids = [f"{n:08x}-aaaa-7000-8000-{n * 7:012x}" for n in range(1_500)]
        odd = ["a b", "{x}", "#1", "\N{SNOWMAN}", "y" * 200]
        assert await store.add_waiting([WaitingJobs([*ids, *odd], KEEP_MS)]) == 0

        for job_id in (*ids[::100], *odd):
            assert await state_of(store, job_id) is JobState.WAITING
        assert await state_of(store, "00000001-aaaa-7000-8000-000000000008") is None

    async def test_end_of_a_job_that_ran_unclaimed_replaces_its_waiting_record(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_PLAIN])
        assert await end(store, 0) is True
        assert await state_of(store) is JobState.DONE

        assert await end(store, 0, identity="j2") is False
        assert await state_of(store, "j2") is None

    async def test_unclaimed_end_replaces_neither_a_claim_nor_a_later_turn(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await store.add_waiting([_PLAIN])
        grant = await granted(store)
        assert await end(store, 0) is False
        assert await state_of(store) is JobState.RUNNING

        await end(store, grant.fence, JobState.WAITING, turn=2)
        assert await end(store, 0) is False
        assert await state_of(store) is JobState.WAITING
