"""A fleet protects what it calls: processes, a Redis, a dependency that counts.

The checkers are those of the test plan; each is shown to see the bug it is there for.
"""

from __future__ import annotations

import time

import pytest

from benchmarks.fleet_history import Plan
from benchmarks.fleet_play import play
from shifter.fleet.circuit import SharedCircuit
from shifter.fleet.guards import RetryLease
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import EvidencePolicy
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.circuit.states import (
    Closed,
    Open,
    Permit,
)
from shifter.policy.protection.dependency import Dependency
from stack.redis import RedisServer
from tests.torture.faults.clock import ClockSet, ClockStrobe, ServerClock, had
from tests.torture.faults.redis import FailedOver, RedisPair, ask
from tests.torture.harness.fleet_checkers import (
    Trial,
    c11_circuit,
    c11_comes_back,
    c12_budget,
    c23_amnesia,
)

pytestmark = [pytest.mark.alone, pytest.mark.redis, pytest.mark.timeout(240)]

CIRCUIT = CircuitPolicy(
    cooldown_ms=1_000, max_cooldown_ms=2_000, probes=2, ramp_ms=1_000
)
FAILING = Dependency("bank", circuit=CIRCUIT)
NEVER_OPEN = EvidencePolicy(consecutive_failures=10**6, failure_ratio=1.0)
BUDGET = BudgetPolicy(ratio=0.2, floor_per_s=2, ttl_ms=5_000)
RETRIED = Dependency("bank", circuit=CIRCUIT, evidence=NEVER_OPEN, budget=BUDGET)
DOWN = (2.0, 5.0)


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


def outage(redis, namespace, folder, *, forgot=False, **more):
    """Calls that all fail for three seconds."""
    shape = {"processes": 4, "per_s": 800, "seconds": 12.0, **more.pop("shape", {})}
    plan = Plan(redis.url, namespace, down=[DOWN], **shape)
    played = play(plan, FAILING, folder, **more)
    return Trial(plan, CIRCUIT, FAILING.budget, played, forgot)


def retried(redis, namespace, folder, *, budget=BUDGET, forgot=False, **more):
    """Calls that fail more often than the budget can bear."""
    shape = {"processes": 4, "per_s": 400, "seconds": 8.0, **more.pop("shape", {})}
    plan = Plan(redis.url, namespace, fail_ratio=0.6, **shape)
    bank = Dependency("bank", circuit=CIRCUIT, evidence=NEVER_OPEN, budget=budget)
    return Trial(plan, CIRCUIT, budget, play(plan, bank, folder, **more), forgot)


def said(*checked):
    return [violation for found in checked for violation in found]


def test_an_outage_is_noticed_by_all_probed_by_few_and_over_without_a_herd(
    redis, namespace, tmp_path
):
    trial = outage(redis, namespace, tmp_path)

    assert said(c11_circuit(trial), c11_comes_back(trial)) == []
    assert any(call.is_probe for call in trial.played.calls)
    assert {turn.state for turn in trial.played.turns} == {
        *("closed", "open", "half_open")
    }


@pytest.mark.torture
def test_f45_fifty_workers_are_no_herd(redis, namespace, tmp_path):
    shape = {"processes": 5, "workers": 10, "per_s": 500}
    trial = outage(redis, namespace, tmp_path, shape=shape)

    assert said(c11_circuit(trial), c11_comes_back(trial)) == []


def b9_half_open_lets_all_through():
    """Seeded: whoever asks an open circuit after its cooldown passes."""

    def admit(self, now_ms):
        if isinstance(self.state, Open) and now_ms < self.state.until_ms:
            return asked(self, now_ms)
        asked(self, now_ms)
        probe = 0 if isinstance(self.state, Closed) else 99
        return Permit(self.state.generation, probe)

    asked = SharedCircuit.admit
    SharedCircuit.admit = admit


def b10_budgets_of_one_process():
    """Seeded: each process takes the whole floor for itself."""

    def wish(self, now_ms):
        self._is_alone, self._share = True, 1

    RetryLease.wish = wish
    RetryLease.spend = lambda self, priority, now_ms, **_: (
        self._alone.withdraw(now_ms, priority) == 1
    )


def test_c11_sees_b9(redis, namespace, tmp_path):
    trial = outage(redis, namespace, tmp_path, prepare=b9_half_open_lets_all_through)

    assert any("probes at once" in found.text for found in c11_circuit(trial))


def test_c12_sees_b10(redis, namespace, tmp_path):
    budget = BudgetPolicy(ratio=0.0, floor_per_s=10, ttl_ms=5_000)
    more = {"budget": budget, "prepare": b10_budgets_of_one_process}
    trial = retried(redis, namespace, tmp_path, shape={"seconds": 6.0}, **more)

    assert [found.checker for found in c12_budget(trial)] == ["C12"]


def test_retries_of_a_fleet_are_within_its_budget(redis, namespace, tmp_path):
    trial = retried(redis, namespace, tmp_path)

    assert said(c12_budget(trial)) == []
    retries = sum(call.is_extra for call in trial.played.calls)
    assert retries > 0.1 * (len(trial.played.calls) - retries)


def test_f34_while_redis_stands_still_no_call_waits_and_retries_are_bounded(
    redis, namespace, tmp_path
):
    def pause():
        time.sleep(2)
        redis.pause()
        time.sleep(6)
        redis.resume()

    shape = {"seconds": 14.0}
    trial = retried(
        redis, namespace, tmp_path, forgot=True, meanwhile=pause, shape=shape
    )

    assert said(c12_budget(trial), c23_amnesia(trial, 2.5, 7.5)) == []


def tell(redis, *words):
    return ask(redis.url, lambda client: client.execute_command(*words))


def killed(redis):
    redis.kill()
    redis.restart()


def flushed(redis):
    tell(redis, "FLUSHALL")


def scripts_flushed(redis):
    tell(redis, "SCRIPT", "FLUSH")


def spoiled(redis):
    """Foreign values under every key of ours."""

    def spoil(client):
        for key in client.keys("shifter:*"):
            # Both at once: between the two a member would make it anew.
            client.pipeline().delete(key).rpush(key, "not what you expect").execute()

    ask(redis.url, spoil)


def silent(redis):
    redis.pause()
    time.sleep(2)
    redis.resume()


def read_only(redis):
    tell(redis, "CONFIG", "SET", "maxmemory", "1")
    time.sleep(1)
    tell(redis, "CONFIG", "SET", "maxmemory", "0")


AMNESIA = {
    "F33 killed": killed,
    "F36 flushed": flushed,
    "F36 scripts flushed": scripts_flushed,
    "F36 wrong types": spoiled,
    "F36 full": read_only,
    "F34 silent": silent,
}
IN_SHORT = frozenset({"F33 killed"})


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(f, id=n, marks=() if n in IN_SHORT else pytest.mark.torture)
        for n, f in AMNESIA.items()
    ],
)
def test_a_store_that_forgets_opens_nothing_and_closes_nothing(
    redis, namespace, tmp_path, fault
):
    """While the circuit is open, and again while all is well."""
    trial = struck(redis, namespace, tmp_path, {3.0: fault, 9.0: fault})

    assert_unharmed(trial)


def struck(redis, namespace, folder, deeds):
    """An outage, and what is done to the store so many seconds after its beginning."""

    def strike():
        began = time.monotonic()
        for at_s, deed in deeds.items():
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            deed(redis)

    more = {"meanwhile": strike, "shape": {"seconds": 14.0}}
    return outage(redis, namespace, folder, forgot=True, **more)


def assert_unharmed(trial):
    assert (
        said(c11_circuit(trial), c11_comes_back(trial), c23_amnesia(trial, 10.0, 13.5))
        == []
    )


@pytest.mark.torture
def test_f35_a_failover_without_the_last_writes_opens_nothing_and_closes_nothing(
    namespace, tmp_path
):
    """What the old primary heard of the outage, the new one never did."""
    with RedisPair() as pair:
        failover = FailedOver(pair)
        deeds = {1.0: lambda _: failover.start(), 3.5: lambda _: failover.promote()}
        trial = struck(pair, namespace, tmp_path, deeds)
        failover.heal()

    assert_unharmed(trial)


JUMPS = {
    "an hour ahead": lambda clock: ClockSet(clock, 3_600),
    "an hour behind": lambda clock: ClockSet(clock, -3_600),
    "to and fro": lambda clock: ClockStrobe(clock, 3_600, -3_600, 0),
}


@pytest.mark.torture
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_f37_a_store_whose_clock_jumps_opens_nothing_and_closes_nothing(
    namespace, tmp_path, jump
):
    """There for a second and back, while the circuit is open and while all is well."""
    clock = had(ServerClock, tmp_path)
    fault = jump(clock)

    def jumps(_):
        with fault:
            time.sleep(1)

    with clock.around():
        server = RedisServer().start()
    try:
        trial = struck(server, namespace, tmp_path, {3.0: jumps, 9.0: jumps})
    finally:
        server.stop()

    assert_unharmed(trial)
