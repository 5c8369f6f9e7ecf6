"""A block around a call guards it: in handlers of any job, and in services."""

from __future__ import annotations

import pytest

from shifter import Shifter
from shifter.errors import (
    BudgetExhaustedError,
    CircuitOpenError,
    LimitReachedError,
    RateLimitedError,
    Throttled,
)
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.limit import LimitMode, LimitPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.protection import EvidencePolicy
from shifter.testing import TestApp

EVIDENCE = EvidencePolicy(consecutive_failures=3)


class Shop:
    """An app whose job calls a dependency that it does not name in ``uses=``."""

    def __init__(self, **settings):
        self.is_up, self.calls, self.starts = True, 0, 0
        self.app = Shifter("shop")
        settings.setdefault("evidence", EVIDENCE)
        self.mailer = self.app.dependency("mailer", **settings)

        @self.app.job(attempts=4, backoff="1s", max_backoff="1s")
        async def send(number: int) -> None:
            self.starts += 1
            async with self.mailer:
                self.calls += 1
                if not self.is_up:
                    raise OSError("refused")

        self.send = send


async def test_an_outage_stops_calls_in_blocks_and_spends_no_attempts():
    shop = Shop()
    async with TestApp(shop.app) as test:
        shop.is_up = False
        for number in range(30):
            await shop.send.defer(number)
        await test.drain(advance="2s")
        assert shop.calls == 3
        assert shop.starts > 30

        shop.is_up = True
        report = await test.drain(advance="1m")
        assert report.done == 30
        assert test.dead_letters() == []


async def test_a_block_in_a_job_that_uses_the_same_counts_once():
    app = Shifter("shop")
    limit = LimitPolicy(mode=LimitMode.FIXED, initial=1)
    mailer = app.dependency("mailer", limit=limit)

    @app.job(uses=mailer, attempts=1)
    async def send() -> None:
        async with mailer:
            pass

    async with TestApp(app) as test:
        await send.defer()
        assert (await test.drain()).done == 1


async def test_a_service_is_refused_what_its_own_calls_opened():
    shop = Shop()
    async with TestApp(shop.app):
        for _ in range(3):
            with pytest.raises(OSError, match="refused"):
                async with shop.mailer:
                    raise OSError("refused")
        with pytest.raises(CircuitOpenError) as refused, shop.mailer:
            raise AssertionError("the block must not run")

    assert refused.value.dependency == "mailer"
    assert 0 < refused.value.retry_in_s < 5


async def test_what_the_dependency_asks_for_is_kept():
    shop = Shop(evidence=EvidencePolicy(min_calls=1))
    async with TestApp(shop.app):
        with pytest.raises(Throttled), shop.mailer:
            raise Throttled("4m")
        with pytest.raises(CircuitOpenError), shop.mailer:
            pass


async def test_room_and_rate_have_their_own_errors():
    shop = Shop(
        limit=LimitPolicy(mode=LimitMode.FIXED, initial=1), rate=RatePolicy(per_s=0.1)
    )
    async with TestApp(shop.app):
        with shop.mailer, pytest.raises(LimitReachedError), shop.mailer:
            pass
        with pytest.raises(RateLimitedError), shop.mailer:
            pass


async def test_a_retry_in_a_block_is_paid_for_by_the_budget():
    shop = Shop(
        evidence=EvidencePolicy(consecutive_failures=10**6, failure_ratio=1.0),
        budget=BudgetPolicy(ratio=0, floor_per_s=0),
    )
    refused = []

    @shop.app.job(attempts=3, backoff="1s", max_backoff="1s")
    async def call() -> None:
        try:
            with shop.mailer:
                raise OSError("refused")
        except BudgetExhaustedError as error:
            refused.append(error)
            raise

    async with TestApp(shop.app) as test:
        await call.defer()
        await test.drain(advance="1m")

    assert len(refused) > 1


async def test_a_refusal_is_not_counted_for_the_job_s_own_dependency():
    """Else an outage of one would open the circuit of the other."""
    app = Shifter("shop")
    bank = app.dependency("bank", evidence=EvidencePolicy(consecutive_failures=1))
    mailer = app.dependency("mailer", evidence=EvidencePolicy(consecutive_failures=1))
    paid = []

    @app.job(uses=bank)
    async def pay(number: int) -> None:
        if number:
            paid.append(number)
            return
        with mailer:
            raise AssertionError("not reached")

    @app.job(attempts=1)
    async def break_it() -> None:
        with mailer:
            raise OSError("refused")

    async with TestApp(app) as test:
        await break_it.defer()
        await test.drain()
        await pay.defer(0)
        await test.drain(advance="1s")
        await pay.defer(1)
        await test.drain()

    assert paid == [1]
