"""Calls to one of several endpoints, from services and from handlers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shifter import Context, Shifter
from shifter.balance import Endpoint, remaining_s
from shifter.errors import (
    BudgetExhaustedError,
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    NoEndpointError,
    Throttled,
)
from shifter.jobs.request_scope import within
from shifter.protection import (
    BalancePolicy,
    BudgetPolicy,
    EjectionPolicy,
    EvidencePolicy,
)
from shifter.testing import TestApp

URLS = ["a:1", "b:1", "c:1"]
PATIENT = EvidencePolicy(consecutive_failures=10**6, min_calls=10**6)


class Shop:
    """An app with a dependency of three endpoints, some of which fail."""

    def __init__(self, endpoints=URLS, **options):
        options.setdefault("evidence", PATIENT)
        self.app = Shifter("shop")
        self.render = self.app.dependency("render", endpoints=endpoints, **options)
        self.called, self.failing, self.stalled = [], set(), set()

    async def fetch(self, endpoint):
        self.called.append(endpoint.host)
        if endpoint.host in self.stalled:
            await asyncio.Event().wait()
        return self.fetch_sync(endpoint, is_noted=True)

    def fetch_sync(self, endpoint, *, is_noted=False):
        if not is_noted:
            self.called.append(endpoint.host)
        if endpoint.host in self.failing:
            raise OSError(f"{endpoint.host} refused")
        return endpoint.host

    def views(self):
        return {view.endpoint.host: view for view in self.render.endpoint_views()}


async def test_a_call_has_an_endpoint_and_its_end_is_noted():
    shop = Shop()
    async with TestApp(shop.app):
        async with shop.render.call(timeout="2s") as call:
            assert call.endpoint.url in {f"http://{url}" for url in URLS}
            assert 0 < call.remaining_s <= 2
            assert remaining_s() == call.remaining_s
            assert shop.views()[call.endpoint.host].inflight == 1
        with pytest.raises(OSError, match="refused"), shop.render.call() as call:
            raise OSError("refused")
        assert remaining_s() is None
        views = shop.views()
    assert [view.inflight for view in views.values()] == [0, 0, 0]
    assert views[call.endpoint.host].latency_s >= 5  # as if it had taken so long


async def test_tries_go_to_different_endpoints_until_one_succeeds():
    shop = Shop()
    async with TestApp(shop.app):
        for _ in range(20):
            shop.called.clear()
            shop.failing = {"a", "b"}
            assert await shop.render.run(shop.fetch, retries=2) == "c"
            assert shop.called in (
                ["c"],
                ["a", "c"],
                ["b", "c"],
                ["a", "b", "c"],
                ["b", "a", "c"],
            )
            assert shop.render.run_sync(shop.fetch_sync, retries=2) == "c"


async def test_the_error_of_the_last_try_is_raised():
    shop = Shop()
    shop.failing = {"a", "b", "c"}
    async with TestApp(shop.app):
        with pytest.raises(OSError, match="refused"):
            await shop.render.run(shop.fetch, retries=2)
        with pytest.raises(OSError, match="refused"):
            shop.render.run_sync(shop.fetch_sync, retries=2)
    assert sorted(shop.called[:3]) == sorted(shop.called[3:]) == ["a", "b", "c"]


async def test_an_error_that_is_no_failure_is_raised_at_once():
    shop = Shop(ignore=OSError)
    shop.failing = {"a", "b", "c"}
    async with TestApp(shop.app):
        with pytest.raises(OSError, match="refused"):
            await shop.render.run(shop.fetch, retries=2, default="none")
        with pytest.raises(OSError, match="refused"):
            shop.render.run_sync(shop.fetch_sync, retries=2, default="none")
    assert len(shop.called) == 2
    assert max(view.latency_s for view in shop.views().values()) < 5


async def test_retries_are_paid_from_the_budget_of_the_dependency():
    shop = Shop(budget=BudgetPolicy(ratio=0, floor_per_s=1))
    shop.failing = {"a", "b", "c"}
    async with TestApp(shop.app):
        for _ in range(30):
            with pytest.raises(OSError, match="refused"):
                await shop.render.run(shop.fetch, retries=2)
    # The floor of ten seconds, of which NORMAL leaves a quarter to those above.
    assert 30 < len(shop.called) <= 40


async def test_each_try_counts_for_the_circuit():
    shop = Shop(evidence=EvidencePolicy(consecutive_failures=3))
    shop.failing = {"a", "b", "c"}
    async with TestApp(shop.app):
        with pytest.raises(OSError, match="refused"):
            await shop.render.run(shop.fetch, retries=2)
        with pytest.raises(CircuitOpenError):
            await shop.render.run(shop.fetch, retries=2)
        assert await shop.render.run(shop.fetch, default=None) is None
        assert await shop.render.run(shop.fetch, default=lambda: "old") == "old"
        assert shop.render.run_sync(shop.fetch_sync, default=[]) == []
    assert len(shop.called) == 3


async def test_a_default_may_be_an_async_function():
    shop = Shop()
    shop.failing = {"a", "b", "c"}

    async def cached():
        return "cached"

    async with TestApp(shop.app):
        assert await shop.render.run(shop.fetch, default=cached) == "cached"


async def test_a_try_that_stalls_is_cut_at_its_timeout_and_is_a_failure():
    shop = Shop()
    shop.stalled = {"a", "b"}
    async with TestApp(shop.app):
        found = await shop.render.run(shop.fetch, timeout="20ms", retries=2)
        assert found == "c"
        shop.stalled.add("c")
        with pytest.raises(TimeoutError, match=r"http://.:1 gave no answer in 0.020 s"):
            await shop.render.run(shop.fetch, timeout="20ms", retries=1)
        with pytest.raises(TimeoutError, match="gave no answer"):
            await shop.render.run(shop.fetch, total="20ms", retries=9)
        assert await shop.render.run(shop.fetch, timeout="20ms", default=1) == 1


async def test_a_call_has_no_more_time_than_its_request():
    shop = Shop()
    async with TestApp(shop.app) as test:
        now_ms = test.clock.epoch_ms()
        with within(deadline_ms=now_ms + 500):
            async with shop.render.call(timeout="2s") as call:
                assert call.remaining_s == 0.5
            async with shop.render.call(timeout="100ms") as call:
                assert call.remaining_s == 0.1
                with shop.render.call(timeout="2s") as inner:
                    assert inner.remaining_s == 0.1
        with within(deadline_ms=now_ms), pytest.raises(DeadlineExceededError):
            await shop.render.run(shop.fetch, default=None)
    assert shop.called == []


async def test_a_second_try_begins_when_the_first_takes_too_long():
    shop = Shop(balance=BalancePolicy(choice="round_robin", hedge_share=1.0))
    shop.stalled = {"a"}
    async with TestApp(shop.app):
        answers = [await shop.render.run(shop.fetch, hedge="10ms") for _ in range(9)]
        views = shop.views()
    assert set(answers) <= {"b", "c"}
    assert "a" in shop.called
    assert [view.inflight for view in views.values()] == [0, 0, 0]
    assert len(shop.called) == 9 + shop.called.count("a")


async def test_the_loser_of_two_tries_is_no_evidence_against_its_endpoint():
    """It had most of its time when it was stopped, and did not use it up."""
    ejection = EjectionPolicy(consecutive_failures=1)
    balance = BalancePolicy(hedge_share=1.0, ejection=ejection)
    shop = Shop(endpoints=["a:1", "b:1"], balance=balance)

    async def fetch(endpoint):
        shop.called.append(endpoint.host)
        if len(shop.called) == 1:
            await asyncio.Event().wait()
        shop.render._caller().replica.clock.advance(40)
        return "second"

    async with TestApp(shop.app):
        assert await shop.render.run(fetch, hedge="5ms", timeout="60s") == "second"
        views = shop.views()
    assert len(set(shop.called)) == 2
    assert [(view.inflight, view.out_s, view.why) for view in views.values()] == [
        (0, 0, "")
    ] * 2


async def test_second_tries_stay_within_their_share():
    shop = Shop(endpoints=["a:1"], balance=BalancePolicy(hedge_share=0.2))

    async def slow(endpoint):
        shop.called.append(endpoint.host)
        await asyncio.sleep(0.02)

    async with TestApp(shop.app):
        for _ in range(20):
            await shop.render.run(slow, hedge="1ms")
    # On a busy machine a first try may end in the same turn in which a second was due.
    assert 20 < len(shop.called) <= 24


async def test_a_second_try_that_fails_does_not_end_the_first():
    shop = Shop(endpoints=["a:1", "b:1"], balance=BalancePolicy(hedge_share=1.0))
    may_answer = asyncio.Event()

    async def fetch(endpoint):
        shop.called.append(endpoint.host)
        if len(shop.called) == 1:
            await may_answer.wait()
            return "first"
        may_answer.set()
        raise OSError("refused")

    async with TestApp(shop.app):
        assert await shop.render.run(fetch, hedge="5ms") == "first"
    assert len(shop.called) == 2


async def test_a_percentile_needs_twenty_calls():
    shop = Shop(balance=BalancePolicy(hedge_share=1.0))
    async with TestApp(shop.app):
        for _ in range(20):
            await shop.render.run(shop.fetch, hedge="p95")
        shop.stalled = {"a", "b"}
        assert await shop.render.run(shop.fetch, hedge="p95", retries=2, timeout="1s")


async def test_a_cancelled_call_frees_its_endpoint():
    shop = Shop()
    shop.stalled = {"a", "b", "c"}
    async with TestApp(shop.app):
        for hedge in (None, "1ms"):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(shop.render.run(shop.fetch, hedge=hedge))
                while not shop.called:
                    await asyncio.sleep(0)
                task.cancel()
            shop.called.clear()
        assert [view.inflight for view in shop.views().values()] == [0, 0, 0]


async def test_an_endpoint_that_asks_for_a_pause_gets_one_and_another_is_called():
    shop = Shop(balance=BalancePolicy(choice="round_robin"))

    async def fetch(endpoint):
        shop.called.append(endpoint.host)
        if endpoint.host == "a":
            raise Throttled("20s")
        return endpoint.host

    async with TestApp(shop.app):
        for _ in range(20):
            assert await shop.render.run(fetch, retries=1) in "bc"
        assert shop.views()["a"].out_s == 20
    assert shop.called.count("a") == 1


async def test_endpoints_may_be_replaced_while_calls_are_under_way():
    shop = Shop()
    async with TestApp(shop.app):
        async with shop.render.call() as call:
            shop.render.set_endpoints([call.endpoint, Endpoint("d:1")])
            assert shop.views()[call.endpoint.host].inflight == 1
        assert set(shop.views()) == {call.endpoint.host, "d"}
        shop.render.set_endpoints(["e:1"])
        assert await shop.render.run(shop.fetch) == "e"


async def test_a_function_that_knows_no_endpoint_refuses_calls():
    shop = Shop(endpoints=list)
    async with TestApp(shop.app):
        with pytest.raises(NoEndpointError, match="no endpoint of 'render' is known"):
            await shop.render.run(shop.fetch, retries=2)
        assert await shop.render.run(shop.fetch, default="old") == "old"


async def test_a_job_calls_the_endpoint_of_its_context():
    shop = Shop(endpoints=["a:1"])

    @shop.app.job(uses=shop.render, attempts=2, backoff="1s")
    async def render_page(ctx: Context, number: int) -> None:
        shop.called.append(ctx.endpoint.host)
        assert ctx.endpoint is ctx.endpoint
        assert shop.views()["a"].inflight == 1
        if ctx.attempt == 1:
            raise OSError("refused")

    async with TestApp(shop.app) as test:
        await render_page.defer(1)
        assert (await test.drain(advance="1m")).done == 1
        [view] = shop.views().values()
    assert shop.called == ["a", "a"]
    assert view.inflight == 0
    assert view.latency_s > 0.01  # the failure counts as a slow call


async def test_retries_of_a_job_that_holds_a_permit_are_paid_for_too():
    shop = Shop(budget=BudgetPolicy(ratio=0, floor_per_s=0))
    shop.failing = {"a", "b", "c"}

    @shop.app.job(uses=shop.render, attempts=1)
    async def render_page() -> None:
        await shop.render.run(shop.fetch, retries=2)

    async with TestApp(shop.app) as test:
        await render_page.defer()
        await test.drain()
        assert len(test.dead_letters()) == 1
    assert len(shop.called) == 1


async def test_an_attempt_s_timeout_bounds_the_calls_of_its_handler():
    shop, left = Shop(), []

    @shop.app.job(timeout="3s", attempts=1)
    async def render_page() -> None:
        async with shop.render.call(timeout="1m") as call:
            left.append(call.remaining_s)

    async with TestApp(shop.app) as test:
        await render_page.defer()
        assert (await test.drain()).done == 1
    assert left == [3.0]


async def test_a_context_without_endpoints_is_one_clear_error():
    app = Shifter("shop")
    mailer = app.dependency("mailer")

    @app.job(attempts=1)
    async def alone(ctx: Context) -> None:
        _ = ctx.endpoint

    @app.job(attempts=1, uses=mailer)
    async def with_mailer(ctx: Context) -> None:
        _ = ctx.endpoint

    async with TestApp(app) as test:
        await alone.defer()
        await with_mailer.defer()
        await test.drain()
        messages = {letter.error_message for letter in test.dead_letters()}
    assert len(messages) == 2
    assert any(message.startswith("uses is None") for message in messages)
    assert any(message.startswith("endpoints is None") for message in messages)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timeout", {"timeout": "soon"}),
        ("timeout", {"timeout": 0}),
        ("total", {"total": "1"}),
        ("retries", {"retries": -1}),
        ("retries", {"retries": True}),
        ("hedge", {"hedge": "p0"}),
        ("hedge", {"hedge": "p100"}),
        ("hedge", {"hedge": "p9x"}),
        ("hedge", {"hedge": "fast"}),
    ],
)
async def test_a_wrong_option_is_one_error_that_names_it(name, options):
    shop = Shop()
    async with TestApp(shop.app):
        with pytest.raises(ConfigError, match=name) as raised:
            await shop.render.run(shop.fetch, default=None, **options)
    assert raised.value.field == name
    assert shop.called == []


@pytest.mark.parametrize("endpoints", [[], "a:1", [7], ["a"], 7, Shop.fetch])
def test_wrong_endpoints_are_one_error_when_they_are_declared(endpoints):
    with pytest.raises(ConfigError, match="endpoints"):
        Shifter("shop").dependency("render", endpoints=endpoints)


async def test_calls_without_endpoints_are_one_clear_error():
    app = Shifter("shop")
    mailer = app.dependency("mailer")
    for use in (mailer.call, lambda: mailer.set_endpoints(["a:1"])):
        with pytest.raises(ConfigError, match=r"app.dependency\(..., endpoints="):
            use()
    assert mailer.endpoint_views() == []
    shop = Shop()
    with pytest.raises(ConfigError, match="hedge"):
        shop.render.run_sync(shop.fetch_sync, hedge="1s")


def test_threads_share_what_is_known():
    shop = Shop()
    barrier = threading.Barrier(4)

    def work():
        barrier.wait()
        for _ in range(200):
            shop.render.run_sync(shop.fetch_sync)

    with TestApp(shop.app):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [view.inflight for view in shop.views().values()] == [0, 0, 0]
    assert len(shop.called) == 800


async def test_a_refusal_by_the_budget_of_a_retried_job_is_a_refusal():
    """A handler that is a retry itself has no first try that is free."""
    shop = Shop(budget=BudgetPolicy(ratio=0, floor_per_s=0))
    seen = []

    @shop.app.job(attempts=2, backoff="1s")
    async def render_page(ctx: Context) -> None:
        shop.failing = {"a", "b", "c"}
        try:
            await shop.render.run(shop.fetch)
        except BudgetExhaustedError as error:
            seen.append(error)
            raise Throttled("1m") from None

    async with TestApp(shop.app) as test:
        await render_page.defer()
        await test.drain(advance="30s")
    assert len(seen) == 1


async def test_an_async_block_is_cancelled_when_its_time_is_up():
    shop = Shop()
    async with TestApp(shop.app):
        with pytest.raises(TimeoutError, match=r"gave no answer in 0\.020 s"):
            async with shop.render.call(timeout="20ms"):
                await asyncio.Event().wait()


async def test_a_plain_block_is_not_stopped():
    shop = Shop()
    async with TestApp(shop.app):
        with shop.render.call(timeout="1ms") as call:
            stopped = threading.Event()
            stopped.wait(0.01)
        assert call.limit.seconds == 0.001


async def test_second_tries_are_paid_from_the_budget():
    shop = Shop(
        balance=BalancePolicy(hedge_share=1.0),
        budget=BudgetPolicy(ratio=0, floor_per_s=0),
    )

    async def slow(endpoint):
        shop.called.append(endpoint.host)
        await asyncio.sleep(0.02)
        return "late"

    async with TestApp(shop.app):
        assert await shop.render.run(slow, hedge="1ms") == "late"
    assert len(shop.called) == 1


async def test_a_job_without_an_endpoint_waits_and_no_attempt_is_charged():
    listed = []
    shop = Shop(endpoints=lambda: listed)

    @shop.app.job(attempts=1)
    async def render_page() -> None:
        shop.called.append(await shop.render.run(shop.fetch))

    async with TestApp(shop.app) as test:
        await render_page.defer()
        await test.drain(advance="5s")
        assert shop.called == []
        listed.append("a:1")
        assert (await test.drain(advance="5s")).done == 1
    assert shop.called == ["a", "a"]
