"""A job that was throttled ran again as a first attempt, whatever the retry budget said.

It is not charged, so its number stayed 1: twenty runs passed a budget of zero, and each
earned retries for others. Every run after the first takes a whole retry; a call that
was refused was none, so the run after it is still the first.
"""

from __future__ import annotations

import pytest

from benchmarks.fleet_history import Call, worst_excess
from shifter import Shifter, Throttled
from shifter.errors import CircuitOpenError
from shifter.policy.protection.budget import BudgetPolicy
from shifter.protection import CircuitPolicy, EvidencePolicy
from shifter.testing import TestApp

NOTHING = BudgetPolicy(ratio=0, floor_per_s=0)
NEVER_OPEN = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)


class Shop:
    """Jobs that call a dependency, by ``uses=`` or in a block; and what it saw."""

    def __init__(self, *, is_block, budget, **options):
        self.app, self.calls, self.error = Shifter("shop"), [], None
        options.setdefault("evidence", NEVER_OPEN)
        bank = self.app.dependency("bank", budget=budget, **options)

        async def in_block(number: int) -> None:
            async with bank:
                self.answer(number)

        async def as_a_whole(number: int) -> None:
            self.answer(number)

        function = in_block if is_block else as_a_whole
        uses = {} if is_block else {"uses": bank}
        job = self.app.job(name="pay", attempts=4, backoff="100ms", **uses)
        self.pay = job(function)

    def answer(self, number):
        at_s = self.test.now.timestamp()
        is_extra = any(seen == number for seen, _ in self.calls)
        self.calls.append((number, Call(at_s, is_extra, False)))
        if self.error is not None:
            raise self.error

    async def drained(self, test, numbers, advance):
        self.test = test
        for number in numbers:
            await self.pay.defer(number)
        return await test.drain(advance=advance)


@pytest.mark.parametrize("is_block", [False, True], ids=["uses", "block"])
@pytest.mark.parametrize("error", [Throttled("100ms"), OSError("no")], ids=repr)
async def test_a_budget_of_zero_lets_nothing_run_twice(is_block, error):
    shop = Shop(is_block=is_block, budget=NOTHING)
    shop.error = error
    async with TestApp(shop.app) as test:
        await shop.drained(test, range(3), "20s")

    assert sorted(number for number, _ in shop.calls) == [0, 1, 2]


@pytest.mark.parametrize("error", [Throttled("100ms"), OSError("no")], ids=repr)
@pytest.mark.parametrize("floor_per_s", [0, 1])
async def test_c12_repeats_stay_within_a_fifth_of_the_first_and_the_floor(
    error, floor_per_s
):
    budget = BudgetPolicy(ratio=0.2, floor_per_s=floor_per_s)
    shop = Shop(is_block=False, budget=budget)
    shop.error = error
    async with TestApp(shop.app) as test:
        for begin in range(0, 100, 25):
            await shop.drained(test, range(begin, begin + 25), "2s")

    calls = [call for _, call in shop.calls]
    assert sum(call.is_extra for call in calls) >= 5
    assert worst_excess(calls, ratio=0.2, floor_per_s=floor_per_s) <= 0


async def test_the_run_after_a_refusal_is_still_the_first():
    circuit = CircuitPolicy(cooldown_ms=1_000, ramp_ms=0)
    evidence = EvidencePolicy(consecutive_failures=1)
    shop = Shop(is_block=True, budget=NOTHING, circuit=circuit, evidence=evidence)
    async with TestApp(shop.app) as test:
        shop.error = OSError("no")
        await shop.drained(test, [0], "0s")
        shop.error = None
        report = await shop.drained(test, range(1, 20), "30s")

    # The one that failed waits for a retry; all that were refused are done.
    assert report.done >= 19


async def test_a_refusal_is_no_run():
    app, seen = Shifter("shop"), []

    @app.job(backoff="100ms")
    async def pay() -> None:
        seen.append(1)
        if len(seen) < 3:
            raise CircuitOpenError("bank", 0.1)

    async with TestApp(app) as test:
        await pay.defer()
        assert (await test.drain(advance="5s")).done == 1
