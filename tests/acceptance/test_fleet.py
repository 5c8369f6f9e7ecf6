"""A fleet protects what it calls: circuits, budgets, quality, on real processes."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.fleet_play import Plan, most_at_once, play, worst_excess
from shifter.fleet.circuit import SharedCircuit
from shifter.fleet.till import RetryTill
from shifter.policy.budget import BudgetPolicy
from shifter.policy.circuit import CircuitPolicy, Closed, Open, Permit
from shifter.policy.dependency import Dependency
from shifter.policy.evidence import EvidencePolicy
from stack.redis import RedisServer

TARGET = "tests.acceptance.dependency_jobs:app"
PROBES = 2
FAILING = Dependency(
    "bank",
    circuit=CircuitPolicy(cooldown_ms=1_500, probes=PROBES, ramp_ms=1_000),
)
NEVER_OPEN = EvidencePolicy(consecutive_failures=10**6, failure_ratio=1.0)
BUDGET = BudgetPolicy(ratio=0.2, floor_per_s=2)
RETRIED = Dependency("bank", evidence=NEVER_OPEN, budget=BUDGET)


@pytest.fixture
def redis():
    with RedisServer() as server:
        yield server


def outage(redis, namespace, folder, **more):
    """Four processes, 800 calls a second, three seconds without an answer."""
    plan = Plan(redis.url, namespace, 4, 800, 9.0, [(2.0, 5.0)])
    return plan, play(plan, FAILING, folder, **more)


def broken_rules_of_c11(plan, played):
    """What the dependency should not have seen."""
    (begin_s, end_s), found = plan.down[0], []
    shut_s = begin_s + 0.5 + plan.took_s
    late = [c for c in played.calls if shut_s <= c.at_s < end_s and not c.is_probe]
    if late:
        found.append(f"{len(late)} calls that are no probes while it is open")
    probes = [call for call in played.calls if call.is_probe]
    at_once = most_at_once(probes, plan.took_s)
    if at_once > PROBES:
        found.append(f"{at_once} probes at once")
    return found


@pytest.mark.redis
def test_an_outage_is_noticed_by_all_and_probed_by_few(redis, namespace, tmp_path):
    plan, played = outage(redis, namespace, tmp_path)

    assert broken_rules_of_c11(plan, played) == []
    assert played.per_s(0.5, 2.0) > 0.8 * plan.per_s
    assert any(call.is_probe for call in played.calls)
    # Back within a cooldown, a probe and the ramp, and not all at once.
    assert played.per_s(8.0, 9.0) > 0.8 * plan.per_s


def b9_half_open_lets_all_through():
    """Seeded: whoever asks an open circuit after its cooldown passes."""

    def admit(self, now_ms, u):
        if isinstance(self.state, Open) and now_ms < self.state.until_ms:
            return asked(self, now_ms, u)
        asked(self, now_ms, u)
        probe = 0 if isinstance(self.state, Closed) else 99
        return Permit(self.state.generation, probe)

    asked = SharedCircuit.admit
    SharedCircuit.admit = admit


def b10_budgets_of_one_process():
    """Seeded: each process takes the whole floor for itself."""

    def wish(self, now_ms):
        self.is_alone, self.share = True, 1

    RetryTill.wish = wish
    RetryTill.spend = lambda self, priority, now_ms: (
        self._alone.withdraw(now_ms, priority) == 1
    )


@pytest.mark.redis
def test_a_circuit_that_lets_all_probe_is_caught(redis, namespace, tmp_path):
    plan, played = outage(
        redis, namespace, tmp_path, prepare=b9_half_open_lets_all_through
    )

    assert any("probes at once" in rule for rule in broken_rules_of_c11(plan, played))


def retried(redis, namespace, folder, seconds=13.0, **more):
    """Four processes whose calls fail more often than the budget can bear."""
    plan = Plan(redis.url, namespace, 4, 400, seconds, fail_ratio=0.6)
    played = play(plan, RETRIED, folder, **more)
    return played, worst_excess(played.calls, ratio=0.2, floor_per_s=2)


@pytest.mark.redis
def test_retries_of_a_fleet_are_within_its_budget(redis, namespace, tmp_path):
    played, excess = retried(redis, namespace, tmp_path)

    assert excess <= 0.05
    retries = sum(call.is_extra for call in played.calls)
    assert retries > 0.1 * (len(played.calls) - retries)


@pytest.mark.redis
def test_budgets_that_are_not_shared_are_caught(redis, namespace, tmp_path):
    policy = BudgetPolicy(ratio=0.0, floor_per_s=10)
    plan = Plan(redis.url, namespace, 4, 400, 6.0, fail_ratio=0.9)
    bank = Dependency("bank", evidence=NEVER_OPEN, budget=policy)
    found = play(plan, bank, tmp_path, prepare=b10_budgets_of_one_process)

    assert worst_excess(found.calls, ratio=0.0, floor_per_s=10) > 0.2


@pytest.mark.redis
def test_without_redis_nobody_waits_and_retries_stay_bounded(
    redis, namespace, tmp_path
):
    def pause():
        time.sleep(3)
        redis.pause()
        time.sleep(7)
        redis.resume()

    played, excess = retried(redis, namespace, tmp_path, meanwhile=pause)

    assert excess <= 0.2
    assert all(told.decision_us[-2] < 5_000 for told in played.told)

    def firsts(begin_s, end_s):
        made = [c for c in played.calls if begin_s <= c.at_s < end_s]
        return sum(not call.is_extra for call in made) / (end_s - begin_s)

    assert firsts(3.5, 9.5) >= 0.9 * firsts(0.5, 3.0)


def submit(fleet, job, number):
    arguments = json.dumps({"number": number})
    fleet.run("submit", TARGET, job, "--json", arguments)


def by_hand(fleet, *arguments):
    return fleet.run(*arguments, "--namespace", fleet.namespace)


def shown(fleet, *arguments):
    return fleet.json(*arguments, "--namespace", fleet.namespace)


def numbers(fleet, name):
    return [int(line[1]) for line in fleet.effects(name)]


def test_a_circuit_set_by_hand_holds_until_it_is_let_go(fleet):
    (fleet.folder / "bank-is-well").touch()
    fleet.run("topics", "apply", TARGET)
    said = by_hand(
        fleet, "circuit", "open", "bank", "--reason", "they asked", "--for", "5m"
    )
    assert "open for 5m" in said.stderr
    explained = fleet.run("explain", TARGET, "pay").stdout
    assert "not here: circuit_open" in explained
    assert explained.splitlines()[-1].startswith("defer: circuit_open")
    fleet.work("--processes", "2", target=TARGET)
    submit(fleet, "pay", 1)

    def is_held():
        (row,) = shown(fleet, "circuit", "list")
        return row["held_back"].get("circuit", 0) > 0

    fleet.until(is_held)
    (row,) = shown(fleet, "status")["circuits"]
    assert row["by_hand"]["reason"] == "they asked"
    assert numbers(fleet, "called") == []

    by_hand(fleet, "circuit", "auto", "bank")
    fleet.until(lambda: numbers(fleet, "paid") == [1])


def test_an_outage_is_survived_without_spending_attempts(fleet):
    fleet.run("topics", "apply", TARGET)
    fleet.work("--processes", "2", target=TARGET)
    for number in range(12):
        submit(fleet, "pay", number)

    def is_open():
        rows = shown(fleet, "circuit", "list")
        return [row["state"] for row in rows] in (["open"], ["half_open"])

    fleet.until(is_open)
    (fleet.folder / "bank-is-well").touch()
    fleet.until(lambda: len(numbers(fleet, "paid")) >= 9)

    fleet.until(lambda: not any(r["waiting"] for r in shown(fleet, "status")["lanes"]))
    dead = sum(row["count"] for row in shown(fleet, "status")["dead_letters"])
    assert sorted(numbers(fleet, "paid")) == sorted(set(numbers(fleet, "paid")))
    assert len(numbers(fleet, "paid")) + dead == 12
    assert dead <= 3


def test_lower_quality_is_answered_cheaper_and_mended_later(fleet):
    fleet.run("topics", "apply", TARGET)
    by_hand(fleet, "quality", "set", "reduced", "--reason", "a spike", "--for", "5m")
    explained = fleet.run("explain", TARGET, "rate").stdout
    assert explained.splitlines()[-1] == "degrade: quality_reduced"
    fleet.work("--processes", "1", target=TARGET)
    submit(fleet, "rate", 7)
    fleet.until(lambda: numbers(fleet, "guessed-REDUCED") == [7])
    # The repair waits for nothing but its turn, and is not answered cheaper again.
    fleet.until(lambda: numbers(fleet, "rated-REDUCED") == [7])
    assert shown(fleet, "quality", "show")["by_hand"]["reason"] == "a spike"

    by_hand(fleet, "quality", "auto")
    assert shown(fleet, "quality", "show")["quality"] == "FULL"
