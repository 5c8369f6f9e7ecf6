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
    ClaimSuite,
    ask,
    cancel,
    end,
    granted,
    renew,
    state_of,
)


class ClaimStoreConformance(ClaimSuite):
    """Claims, leases, fences and ends of plain jobs."""

    async def test_a_job_that_never_ran_is_granted(self) -> None:
        answer = await ask(self.bench.open())

        assert isinstance(answer, Granted)
        assert answer.fence > 0
        assert answer.losses == 0

    async def test_a_live_lease_is_busy_for_others_and_for_its_own_owner(self) -> None:
        first, second = self.bench.open(), self.bench.open()
        await ask(first, owner="w1")
        await self.bench.advance(10_000)

        for store, owner in ((second, "w2"), (first, "w1")):
            answer = await ask(store, owner=owner)

            assert isinstance(answer, Busy)
            assert LEASE_MS - 15_000 < answer.retry_in_ms <= LEASE_MS - 10_000

    async def test_an_ended_lease_is_granted_and_counted_as_a_loss(self) -> None:
        for losses in range(4):
            answer = await ask(self.store)
            await self.bench.advance(LEASE_MS)

            assert isinstance(answer, Granted)
            assert answer.losses == losses

    async def test_losses_of_one_turn_are_not_charged_to_the_next(self) -> None:
        await ask(self.store, turn=1)
        await self.bench.advance(LEASE_MS)

        answer = await ask(self.store, turn=2)

        assert isinstance(answer, Granted)
        assert answer.losses == 0

    async def test_a_later_turn_waits_for_the_lease_of_an_earlier_one(self) -> None:
        await ask(self.store, turn=1)

        assert isinstance(await ask(self.store, turn=2), Busy)

    async def test_an_older_turn_is_handed_over_in_every_state(self) -> None:
        grant = await granted(self.store, turn=3)

        assert await ask(self.store, turn=2) == HandedOver(3)  # running
        await self.bench.advance(LEASE_MS)
        assert await ask(self.store, turn=2) == HandedOver(3)  # its lease ended
        assert await end(self.store, grant.fence, JobState.WAITING, turn=4)
        assert await ask(self.store, turn=3) == HandedOver(4)  # waiting

    async def test_a_waiting_turn_is_granted_at_once_without_a_loss(self) -> None:
        grant = await granted(self.store)
        assert await end(self.store, grant.fence, JobState.WAITING, turn=2)

        answer = await ask(self.store, turn=2, attempt=2)

        assert isinstance(answer, Granted)
        assert answer.losses == 0
        assert answer.fence > grant.fence

    async def test_a_turn_that_was_handed_back_is_granted_without_a_loss(
        self,
    ) -> None:
        grant = await granted(self.store, turn=2)
        assert await end(self.store, grant.fence, JobState.WAITING, turn=2)

        answer = await ask(self.store, turn=2)

        assert isinstance(answer, Granted)
        assert answer.losses == 0

    async def test_an_ended_job_is_finished_for_every_turn(self) -> None:
        for state in ENDS:
            grant = await granted(self.store, state, turn=2)
            assert await end(self.store, grant.fence, state, identity=state, turn=2)

            for turn in (1, 2, 3):
                assert await ask(self.store, state, turn=turn) == Finished(state)

    async def test_fences_grow_with_every_grant(self) -> None:
        fences: list[int] = []
        for turn in range(1, 20):
            grant = await granted(self.store, turn=turn)
            fences.append(grant.fence)
            await end(self.store, grant.fence, JobState.WAITING, turn=turn + 1)

        assert fences == sorted(set(fences))
        assert fences[-1] < 2**53

    async def test_fences_grow_after_the_store_forgot_everything(self) -> None:
        store = self.bench.open()
        before = await granted(store)
        await self.bench.advance(5)
        await self.bench.forget()

        store = self.bench.open()
        after = await granted(store)

        assert after.fence > before.fence
        assert await end(store, before.fence) is False

    async def test_a_clock_set_back_keeps_lease_lengths_and_fence_order(
        self,
    ) -> None:
        before = await granted(self.store)
        await self.bench.set_back(HOUR_MS)

        busy = await ask(self.store)
        await self.bench.advance(LEASE_MS)
        after = await granted(self.store)

        assert isinstance(busy, Busy)
        assert LEASE_MS - 5_000 < busy.retry_in_ms <= LEASE_MS
        assert after.fence > before.fence

    async def test_an_older_fence_neither_renews_nor_ends(self) -> None:
        first, second = self.bench.open(), self.bench.open()
        old = await granted(first)
        await self.bench.advance(LEASE_MS)
        new = await granted(second)

        assert await renew(first, old.fence) == LOST
        assert await end(first, old.fence, JobState.DEAD) is False
        assert await state_of(second) is JobState.RUNNING
        assert await end(second, new.fence) is True
        assert await state_of(second) is JobState.DONE

    async def test_renewing_extends_the_lease_from_now(self) -> None:
        grant = await granted(self.store)
        for _ in range(5):
            await self.bench.advance(LEASE_MS - 5_000)
            assert await renew(self.store, grant.fence) == HELD

        answer = await ask(self.store)

        assert isinstance(answer, Busy)
        assert answer.retry_in_ms > LEASE_MS - 5_000

    async def test_a_lease_that_ended_unnoticed_can_still_be_renewed(self) -> None:
        grant = await granted(self.store)
        await self.bench.advance(2 * LEASE_MS)

        assert await renew(self.store, grant.fence) == HELD
        assert isinstance(await ask(self.store), Busy)

    async def test_a_lease_that_ended_unnoticed_can_still_end(self) -> None:
        grant = await granted(self.store)
        await self.bench.advance(2 * LEASE_MS)

        assert await end(self.store, grant.fence) is True

    async def test_what_never_ran_or_ended_cannot_be_renewed(self) -> None:
        grant = await granted(self.store)
        await end(self.store, grant.fence)

        await granted(self.store, "other")
        held = [("j1", grant.fence), ("never", 1), ("other", 2**52)]

        assert await self.store.renew(held, lease_ms=LEASE_MS) == [LOST, LOST, LOST]

    async def test_an_end_with_a_lost_answer_is_confirmed_when_repeated(
        self,
    ) -> None:
        grant = await granted(self.store)
        await end(self.store, grant.fence, JobState.WAITING, turn=2)

        assert await end(self.store, grant.fence, JobState.WAITING, turn=2) is True
        assert await end(self.store, grant.fence, JobState.WAITING, turn=3) is False
        assert await end(self.store, grant.fence, JobState.DONE, turn=1) is False
        assert await state_of(self.store) is JobState.WAITING

    async def test_an_end_is_remembered_for_its_keep_time(self) -> None:
        grant = await granted(self.store)
        await end(self.store, grant.fence, keep_ms=KEEP_MS)

        await self.bench.advance(KEEP_MS - 5_000)
        assert await ask(self.store) == Finished(JobState.DONE)
        await self.bench.advance(5_000)
        assert await self.store.status("j1") is None
        assert isinstance(await ask(self.store), Granted)

    async def test_a_running_claim_outlives_its_lease_by_an_hour_only(
        self,
    ) -> None:
        await ask(self.store)

        await self.bench.advance(LEASE_MS + HOUR_MS - 5_000)
        assert await state_of(self.store) is JobState.RUNNING
        await self.bench.advance(5_000)
        assert await state_of(self.store) is None

    async def test_status_names_the_owner_while_running_only(self) -> None:
        assert await self.store.status("j1") is None
        grant = await ask(self.store, owner="host 1;42/é%3B", attempt=3)
        assert isinstance(grant, Granted)

        running = await self.store.status("j1")
        await self.store.finish(
            [ClaimUpdate("j1", grant.fence, JobState.DEAD, 1, 3, KEEP_MS)]
        )
        ended = await self.store.status("j1")

        assert isinstance(running, JobStatus)
        assert isinstance(ended, JobStatus)
        assert running[:4] == ("j1", JobState.RUNNING, 3, "host 1;42/é%3B")
        assert ended[:4] == ("j1", JobState.DEAD, 3, None)
        assert 0 < running.updated_ms <= ended.updated_ms

    async def test_answers_keep_the_order_of_a_mixed_batch(self) -> None:
        done, waiting = (
            await granted(self.store, "done"),
            await granted(self.store, "waiting"),
        )
        await end(self.store, done.fence, identity="done")
        await end(
            self.store, waiting.fence, JobState.WAITING, identity="waiting", turn=5
        )
        await granted(self.store, "busy")
        await cancel(self.store, "gone")
        names = ("new", "done", "waiting", "busy", "gone", "new too")

        answers = await self.store.claim(
            [ClaimRequest(name, name, 1 + (name == "new"), 1) for name in names],
            owner="w2",
            lease_ms=LEASE_MS,
        )

        kinds = [Granted, Finished, HandedOver, Busy, Cancelled, Granted]
        assert [type(answer) for answer in answers] == kinds

    async def test_a_thousand_jobs_are_claimed_renewed_and_ended_in_order(self) -> None:
        names = [f"j{i}" for i in range(1_000)]
        requests = [ClaimRequest(name, name, 1, 1) for name in names]

        grants = await self.store.claim(requests, owner="w1", lease_ms=LEASE_MS)
        fences = [grant.fence for grant in grants if isinstance(grant, Granted)]
        held = list(zip(names, fences, strict=True))
        held[7] = ("j7", 1)
        renewed = await self.store.renew(held, lease_ms=LEASE_MS)
        written = await self.store.finish(
            [ClaimUpdate(n, f, JobState.DONE, 1, 1, KEEP_MS) for n, f in held]
        )

        assert [i for i, renewal in enumerate(renewed) if renewal != HELD] == [7]
        assert [i for i, held in enumerate(written) if not held] == [7]

    async def test_an_empty_batch_has_no_answers(self) -> None:
        assert await self.store.claim([], owner="w1", lease_ms=LEASE_MS) == []
        assert await self.store.renew([], lease_ms=LEASE_MS) == []
        assert await self.store.finish([]) == []

    async def test_any_text_may_be_an_identity_and_no_two_share_a_claim(self) -> None:
        names = ["", " ", "a;b", "{x}", "}{", "a\nb", "a\x00", "é☃", "\ud800", "#1"]
        names += ["x" * 128, "x" * 129, "x" * 5_000, "x" * 5_000 + "y", "%3B", "job:k"]

        fences = {name: (await granted(self.store, name)).fence for name in names}
        for name in names[::2]:
            assert await end(self.store, fences[name], identity=name)

        states = [await state_of(self.store, name) for name in names]
        assert states == [JobState.DONE, JobState.RUNNING] * (len(names) // 2)

    async def test_one_of_many_workers_is_granted(self) -> None:
        stores = [self.bench.open() for _ in range(8)]

        answers = await asyncio.gather(
            *(ask(store, owner=f"w{i}") for i, store in enumerate(stores))
        )

        kinds = sorted(type(answer).__name__ for answer in answers)
        assert kinds == ["Busy"] * 7 + ["Granted"]

    async def test_ping_describes_the_store_in_one_line(self) -> None:
        line = await self.bench.open().ping()

        assert line
        assert "\n" not in line

    async def test_a_note_keeps_its_first_text_for_its_keep_time(self) -> None:
        first, second = self.bench.open(), self.bench.open()

        assert await first.note("n1", "one", keep_ms=HOUR_MS) == "one"
        assert await second.note("n1", "two", keep_ms=HOUR_MS) == "one"
        assert await second.note("n2", "two", keep_ms=HOUR_MS) == "two"
        await self.bench.advance(HOUR_MS + 1_000)
        assert await second.note("n1", "three", keep_ms=HOUR_MS) == "three"

    async def test_a_note_is_no_claim_of_the_same_name(self) -> None:
        await self.store.note("j1", "one", keep_ms=HOUR_MS)
        answer = await ask(self.store)

        assert isinstance(answer, Granted)
        assert await self.store.note("j1", "two", keep_ms=HOUR_MS) == "one"
