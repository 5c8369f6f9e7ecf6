"""Checks of a deployment are values: what failed, why, and how to fix it."""

from __future__ import annotations

import pytest

from shifter import Shifter, wiring
from shifter.adapters.memory.broker import MemoryLog
from shifter.adapters.memory.log import MemoryLogAdmin
from shifter.adapters.system import SystemClock
from shifter.config import Settings
from shifter.errors import StoreRefusedError, StoreUnavailableError
from shifter.ops.doctor import (
    check_state,
    check_topics,
    examine,
    failed_checks,
    until_up,
)
from shifter.testing.clock import FakeClock


class WaitingClock:
    """A clock that moves only in `sleep`, and at once."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Store:
    """A log or a state store that fails in one way."""

    def __init__(self, error=None, *, until=float("inf"), clock=None) -> None:
        self.error, self.until, self.clock = error, until, clock
        self.asked, self.is_closed = 0, False

    async def ping(self) -> str:
        self.asked += 1
        if self.error is not None and self.clock.now < self.until:
            raise self.error
        return "a store"

    async def claim(self, requests, *, owner, lease_ms):
        raise self.error

    async def close(self) -> None:
        self.is_closed = True


AWAY = StoreUnavailableError("kafka", "ping", "nobody listens")


def explain(error) -> tuple[str, str]:
    return f"explained: {error}", "mend it"


def by_name(findings) -> dict:
    return {finding.name: finding for finding in findings}


async def test_deployment_without_faults_fails_no_check(settings):
    found = await examine(settings, SystemClock(), wait_s=0, explain=explain)

    assert failed_checks(found) == set()
    assert {"python", "sqlite", "log", "state.write"} <= set(by_name(found))


async def test_a_check_that_ends_with_an_error_does_not_end_the_others(settings):
    only_state = Settings(namespace="shop", state_url=settings.log_url)

    found = await examine(only_state, SystemClock(), wait_s=0, explain=explain)

    assert failed_checks(found) == {"log"}
    log = by_name(found)["log"]
    assert log.detail.startswith("explained: ")
    assert log.fix == "mend it"
    assert by_name(found)["state.write"].status == "ok"


async def test_missing_topics_fail_until_they_are_made(settings, monkeypatch):
    admin = MemoryLogAdmin(MemoryLog(FakeClock()))
    monkeypatch.setattr(wiring, "open_admin", lambda settings: admin)
    app = Shifter("shop", settings=settings)

    @app.job(queue="mail")
    async def send() -> None: ...

    before = await check_topics(app, "shop.jobs:app")
    await admin.apply(wiring.topic_specs(settings, app.queues))
    after = await check_topics(app, "shop.jobs:app")

    assert failed_checks(before) == {"topics"}
    assert {finding.fix for finding in before} == {"shifter topics apply shop.jobs:app"}
    assert [finding.status for finding in after] == ["ok"]


async def test_a_right_that_is_missing_is_a_warning(settings, monkeypatch):
    class Admin(Store):
        async def diff(self, specs):
            raise self.error

    admin = Admin(StoreRefusedError("kafka", "diff", "no right"))
    monkeypatch.setattr(wiring, "open_admin", lambda settings: admin)

    [finding] = await check_topics(Shifter("shop", settings=settings), "shop.jobs:app")

    assert (finding.status, admin.is_closed) == ("warn", True)
    assert "DESCRIBE" in finding.fix


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("READONLY You can't write against a read only replica.", "primary"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
        ("no space left on device", "disk"),
        ("NOPERM this user has no permissions", "shifter:*"),
    ],
)
async def test_a_store_that_refuses_writes_gets_the_fix_of_its_error(
    settings, monkeypatch, text, word
):
    store = Store(StoreRefusedError("redis", "claim", text), until=0)
    store.clock = WaitingClock()
    monkeypatch.setattr(wiring, "open_claims", lambda *_, **__: store)

    found = await check_state(settings, SystemClock(), 0.0)

    assert failed_checks(found) == {"state.write"}
    assert word in by_name(found)["state.write"].fix
    assert store.is_closed


async def test_waiting_ends_when_both_stores_answer(settings, monkeypatch):
    clock, warnings = WaitingClock(), []
    log = Store(AWAY, until=101.0, clock=clock)
    state = Store(AWAY, until=102.0, clock=clock)
    monkeypatch.setattr(wiring, "open_claims", lambda *_, **__: state)

    await until_up(settings, log, clock, wait_s=10, warn=warnings.append)

    assert (clock.now, warnings, state.is_closed) == (102.0, [], True)


async def test_a_log_that_stays_away_is_the_error_of_the_last_try(settings):
    clock = WaitingClock()
    log = Store(AWAY, clock=clock)

    with pytest.raises(StoreUnavailableError):
        await until_up(settings, log, clock, wait_s=1, warn=print)

    assert (log.asked, clock.now) == (3, 101.0)


async def test_a_state_store_that_stays_away_is_a_warning(settings, monkeypatch):
    clock, warnings = WaitingClock(), []
    state = Store(AWAY, clock=clock)
    monkeypatch.setattr(wiring, "open_claims", lambda *_, **__: state)

    await until_up(settings, Store(), clock, wait_s=1, warn=warnings.append)

    assert len(warnings) == 1
    assert "without the state store" in warnings[0]


async def test_a_store_that_refuses_this_client_is_not_asked_again(settings):
    clock = WaitingClock()
    log = Store(StoreRefusedError("kafka", "ping", "wrong password"), clock=clock)

    with pytest.raises(StoreRefusedError):
        await until_up(settings, log, clock, wait_s=60, warn=print)

    assert log.asked == 1
