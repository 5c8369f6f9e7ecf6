"""Claims, leases, fences and ends of plain jobs."""

from __future__ import annotations

import asyncio

from shifter.model.claim import (
    Busy,
    Cancelled,
    ClaimRequest,
    ClaimUpdate,
    Finished,
    Granted,
    HandedOver,
    JobState,
    JobStatus,
)
from shifter.testing.conformance.claim_bench import (
    ENDS,
    HELD,
    HOUR_MS,
    KEEP_MS,
    LEASE_MS,
    LOST,
    ClaimBench,
    ask,
    end,
    granted,
    state_of,
)


class ClaimStoreConformance:
    """Claims, leases, fences and ends of plain jobs."""

    async def test_a_job_that_never_ran_is_granted(
        self, claim_bench: ClaimBench
    ) -> None:
        answer = await ask(claim_bench.open())

        assert isinstance(answer, Granted)
        assert answer.fence > 0
        assert answer.losses == 0

    async def test_a_live_lease_is_busy_for_others_and_for_its_own_owner(
        self, claim_bench: ClaimBench
    ) -> None:
        first, second = claim_bench.open(), claim_bench.open()
        await ask(first, owner="w1")
        await claim_bench.advance(10_000)

        for store, owner in ((second, "w2"), (first, "w1")):
            answer = await ask(store, owner=owner)

            assert isinstance(answer, Busy)
            assert LEASE_MS - 15_000 < answer.retry_in_ms <= LEASE_MS - 10_000

    async def test_an_ended_lease_is_granted_and_counted_as_a_loss(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        for losses in range(4):
            answer = await ask(store)
            await claim_bench.advance(LEASE_MS)

            assert isinstance(answer, Granted)
            assert answer.losses == losses

    async def test_losses_of_one_turn_are_not_charged_to_the_next(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await ask(store, turn=1)
        await claim_bench.advance(LEASE_MS)

        answer = await ask(store, turn=2)

        assert isinstance(answer, Granted)
        assert answer.losses == 0

    async def test_a_later_turn_waits_for_the_lease_of_an_earlier_one(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await ask(store, turn=1)

        assert isinstance(await ask(store, turn=2), Busy)

    async def test_an_older_turn_is_handed_over_in_every_state(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, turn=3)

        assert await ask(store, turn=2) == HandedOver(3)  # running
        await claim_bench.advance(LEASE_MS)
        assert await ask(store, turn=2) == HandedOver(3)  # its lease ended
        assert await end(store, grant.fence, JobState.WAITING, turn=4)
        assert await ask(store, turn=3) == HandedOver(4)  # waiting

    async def test_a_waiting_turn_is_granted_at_once_without_a_loss(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        assert await end(store, grant.fence, JobState.WAITING, turn=2)

        answer = await ask(store, turn=2, attempt=2)

        assert isinstance(answer, Granted)
        assert answer.losses == 0
        assert answer.fence > grant.fence

    async def test_a_turn_that_was_handed_back_is_granted_at_once_without_a_loss(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store, turn=2)
        assert await end(store, grant.fence, JobState.WAITING, turn=2)

        answer = await ask(store, turn=2)

        assert isinstance(answer, Granted)
        assert answer.losses == 0

    async def test_an_ended_job_is_finished_for_every_turn(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        for state in ENDS:
            grant = await granted(store, state, turn=2)
            assert await end(store, grant.fence, state, identity=state, turn=2)

            for turn in (1, 2, 3):
                assert await ask(store, state, turn=turn) == Finished(state)

    async def test_fences_grow_with_every_grant(self, claim_bench: ClaimBench) -> None:
        store = claim_bench.open()
        fences: list[int] = []
        for turn in range(1, 20):
            grant = await granted(store, turn=turn)
            fences.append(grant.fence)
            await end(store, grant.fence, JobState.WAITING, turn=turn + 1)

        assert fences == sorted(set(fences))
        assert fences[-1] < 2**53

    async def test_fences_grow_after_the_store_forgot_everything(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        before = await granted(store)
        await claim_bench.advance(5)
        await claim_bench.forget()

        store = claim_bench.open()
        after = await granted(store)

        assert after.fence > before.fence
        assert await end(store, before.fence) is False

    async def test_a_clock_that_goes_back_makes_no_lease_longer_and_no_fence_smaller(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        before = await granted(store)
        await claim_bench.set_back(HOUR_MS)

        busy = await ask(store)
        await claim_bench.advance(LEASE_MS)
        after = await granted(store)

        assert isinstance(busy, Busy)
        assert LEASE_MS - 5_000 < busy.retry_in_ms <= LEASE_MS
        assert after.fence > before.fence

    async def test_an_older_fence_neither_renews_nor_ends(
        self, claim_bench: ClaimBench
    ) -> None:
        first, second = claim_bench.open(), claim_bench.open()
        old = await granted(first)
        await claim_bench.advance(LEASE_MS)
        new = await granted(second)

        assert await first.renew([("j1", old.fence)], lease_ms=LEASE_MS) == [LOST]
        assert await end(first, old.fence, JobState.DEAD) is False
        assert await state_of(second) is JobState.RUNNING
        assert await end(second, new.fence) is True
        assert await state_of(second) is JobState.DONE

    async def test_renewing_extends_the_lease_from_now(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        for _ in range(5):
            await claim_bench.advance(LEASE_MS - 5_000)
            renewed = await store.renew([("j1", grant.fence)], lease_ms=LEASE_MS)
            assert renewed == [HELD]

        answer = await ask(store)

        assert isinstance(answer, Busy)
        assert answer.retry_in_ms > LEASE_MS - 5_000

    async def test_a_lease_that_ended_unnoticed_can_still_be_renewed(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await claim_bench.advance(2 * LEASE_MS)

        assert await store.renew([("j1", grant.fence)], lease_ms=LEASE_MS) == [HELD]
        assert isinstance(await ask(store), Busy)

    async def test_a_lease_that_ended_unnoticed_can_still_end(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await claim_bench.advance(2 * LEASE_MS)

        assert await end(store, grant.fence) is True

    async def test_what_never_ran_or_ended_cannot_be_renewed(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await end(store, grant.fence)

        await granted(store, "other")
        held = [("j1", grant.fence), ("never", 1), ("other", 2**52)]

        assert await store.renew(held, lease_ms=LEASE_MS) == [LOST, LOST, LOST]

    async def test_an_end_whose_answer_was_lost_is_confirmed_when_said_again(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await end(store, grant.fence, JobState.WAITING, turn=2)

        assert await end(store, grant.fence, JobState.WAITING, turn=2) is True
        assert await end(store, grant.fence, JobState.WAITING, turn=3) is False
        assert await end(store, grant.fence, JobState.DONE, turn=1) is False
        assert await state_of(store) is JobState.WAITING

    async def test_an_end_is_remembered_for_its_keep_time(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        grant = await granted(store)
        await end(store, grant.fence, keep_ms=KEEP_MS)

        await claim_bench.advance(KEEP_MS - 5_000)
        assert await ask(store) == Finished(JobState.DONE)
        await claim_bench.advance(5_000)
        assert await store.status("j1") is None
        assert isinstance(await ask(store), Granted)

    async def test_a_running_claim_outlives_its_lease_by_an_hour_and_no_more(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        await ask(store)

        await claim_bench.advance(LEASE_MS + HOUR_MS - 5_000)
        assert await state_of(store) is JobState.RUNNING
        await claim_bench.advance(5_000)
        assert await state_of(store) is None

    async def test_status_names_the_owner_while_running_only(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        assert await store.status("j1") is None
        grant = await ask(store, owner="host 1;42/é%3B", attempt=3)
        assert isinstance(grant, Granted)

        running = await store.status("j1")
        await store.finish(
            [ClaimUpdate("j1", grant.fence, JobState.DEAD, 1, 3, KEEP_MS)]
        )
        ended = await store.status("j1")

        assert isinstance(running, JobStatus)
        assert isinstance(ended, JobStatus)
        assert running[:4] == ("j1", JobState.RUNNING, 3, "host 1;42/é%3B")
        assert ended[:4] == ("j1", JobState.DEAD, 3, None)
        assert 0 < running.updated_ms <= ended.updated_ms

    async def test_answers_keep_the_order_of_a_mixed_batch(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        done, waiting = await granted(store, "done"), await granted(store, "waiting")
        await end(store, done.fence, identity="done")
        await end(store, waiting.fence, JobState.WAITING, identity="waiting", turn=5)
        await granted(store, "busy")
        await store.cancel("gone", keep_ms=KEEP_MS)
        names = ("new", "done", "waiting", "busy", "gone", "new too")

        answers = await store.claim(
            [ClaimRequest(name, name, 1 + (name == "new"), 1) for name in names],
            owner="w2",
            lease_ms=LEASE_MS,
        )

        kinds = [Granted, Finished, HandedOver, Busy, Cancelled, Granted]
        assert [type(answer) for answer in answers] == kinds

    async def test_a_thousand_jobs_are_claimed_renewed_and_ended_in_order(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        names = [f"j{i}" for i in range(1_000)]
        requests = [ClaimRequest(name, name, 1, 1) for name in names]

        grants = await store.claim(requests, owner="w1", lease_ms=LEASE_MS)
        fences = [grant.fence for grant in grants if isinstance(grant, Granted)]
        held = list(zip(names, fences, strict=True))
        held[7] = ("j7", 1)
        renewed = await store.renew(held, lease_ms=LEASE_MS)
        written = await store.finish(
            [ClaimUpdate(n, f, JobState.DONE, 1, 1, KEEP_MS) for n, f in held]
        )

        assert [i for i, renewal in enumerate(renewed) if renewal != HELD] == [7]
        assert [i for i, held in enumerate(written) if not held] == [7]

    async def test_an_empty_batch_has_no_answers(self, claim_bench: ClaimBench) -> None:
        store = claim_bench.open()

        assert await store.claim([], owner="w1", lease_ms=LEASE_MS) == []
        assert await store.renew([], lease_ms=LEASE_MS) == []
        assert await store.finish([]) == []

    async def test_any_text_may_be_an_identity_and_no_two_are_mixed_up(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()
        names = ["", " ", "a;b", "{x}", "}{", "a\nb", "a\x00", "é☃", "\ud800", "#1"]
        names += ["x" * 128, "x" * 129, "x" * 5_000, "x" * 5_000 + "y", "%3B", "job:k"]

        fences = {name: (await granted(store, name)).fence for name in names}
        for name in names[::2]:
            assert await end(store, fences[name], identity=name)

        states = [await state_of(store, name) for name in names]
        assert states == [JobState.DONE, JobState.RUNNING] * (len(names) // 2)

    async def test_one_of_many_workers_is_granted(
        self, claim_bench: ClaimBench
    ) -> None:
        stores = [claim_bench.open() for _ in range(8)]

        answers = await asyncio.gather(
            *(ask(store, owner=f"w{i}") for i, store in enumerate(stores))
        )

        kinds = sorted(type(answer).__name__ for answer in answers)
        assert kinds == ["Busy"] * 7 + ["Granted"]

    async def test_ping_describes_the_store_in_one_line(
        self, claim_bench: ClaimBench
    ) -> None:
        line = await claim_bench.open().ping()

        assert line
        assert "\n" not in line

    async def test_a_note_keeps_the_first_word_for_as_long_as_it_was_to(
        self, claim_bench: ClaimBench
    ) -> None:
        first, second = claim_bench.open(), claim_bench.open()

        assert await first.note("n1", "one", keep_ms=HOUR_MS) == "one"
        assert await second.note("n1", "two", keep_ms=HOUR_MS) == "one"
        assert await second.note("n2", "two", keep_ms=HOUR_MS) == "two"
        await claim_bench.advance(HOUR_MS + 1_000)
        assert await second.note("n1", "three", keep_ms=HOUR_MS) == "three"

    async def test_a_note_is_no_claim_of_the_same_name(
        self, claim_bench: ClaimBench
    ) -> None:
        store = claim_bench.open()

        await store.note("j1", "one", keep_ms=HOUR_MS)
        answer = await ask(store)

        assert isinstance(answer, Granted)
        assert await store.note("j1", "two", keep_ms=HOUR_MS) == "one"
