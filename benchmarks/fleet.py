"""What a fleet costs and how well it protects, counted at the dependency."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.fleet_history import Plan, Played, most_at_once, worst_excess
from benchmarks.fleet_play import play
from benchmarks.report import Finding
from benchmarks.retry_storm import amplification, storm
from shifter.adapters.system import SystemClock
from shifter.fleet.guards import CallPermit
from shifter.fleet.replica import FleetReplica
from shifter.model.lane import Priority
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.evidence import (
    CallEnd,
    CallOutcome,
    EvidencePolicy,
)
from shifter.policy.protection.circuit.policy import CircuitPolicy
from shifter.policy.protection.dependency import Dependency
from shifter.policy.protection.limit import LimitPolicy
from stack.redis import RedisServer

PROBES: Final = 2
BANK: Final = Dependency(
    "bank",
    circuit=CircuitPolicy(
        cooldown_ms=1_500, max_cooldown_ms=2_000, probes=PROBES, ramp_ms=2_000
    ),
)
NEVER_OPEN: Final = EvidencePolicy(consecutive_failures=10**6, failure_ratio=1.0)
RATIO: Final = 0.2
FLOOR_PER_S: Final = 10
RETRIED: Final = Dependency(
    "bank",
    evidence=NEVER_OPEN,
    budget=BudgetPolicy(ratio=RATIO, floor_per_s=FLOOR_PER_S),
)


def measure(scale: float) -> list[Finding]:
    """All findings, on a Redis of their own."""
    findings = _decisions(int(200_000 * scale) + 1_000)
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        findings += _thousand(redis, place)
        findings += _outage(redis, place)
        findings += _newborn(redis, place)
        findings += _budget(redis, place)
        findings += _silence(redis, place)
        played = storm(redis.url, place)
    return [
        *findings,
        _most("naive retries of 3 layers", amplification(played.naive), "x", 64),
        _most("the same with the budget", amplification(played.budgeted), "x", 1.2),
    ]


def _most(name: str, value: float, unit: str, bound: float) -> Finding:
    return Finding(name, value, unit, None, None, bound, at_most=True)


def _plan(redis: RedisServer, **more: object) -> Plan:
    return Plan(redis.url, f"bench{uuid.uuid4().hex[:8]}", **more)  # type: ignore[arg-type]


def _decisions(count: int) -> list[Finding]:
    """Circuit, limit and budget of one call, every tenth a retry; then its end."""
    clock = SystemClock()
    bank = Dependency("bank", limit=LimitPolicy(initial=200))
    replica = FleetReplica([bank], clock, process="alone", seed=1)
    protection, ok = replica.protections["bank"], CallEnd(CallOutcome.SUCCESS, 5)
    spent = []
    for n in range(count):
        began = time.perf_counter_ns()
        with replica.lock:
            permit = protection.admit(
                Priority.NORMAL,
                is_extra=n % 10 == 0,
                now_ms=int(clock.monotonic() * 1_000),
            )
        spent.append(time.perf_counter_ns() - began)
        if isinstance(permit, CallPermit):
            protection.ended(permit, ok, now_ms=int(clock.monotonic() * 1_000))
    spent.sort()
    return [
        _most("fleet decision, p50", spent[count // 2] / 1_000, "us", 3),
        _most("fleet decision, p99", spent[count * 99 // 100] / 1_000, "us", 15),
    ]


def _thousand(redis: RedisServer, folder: Path) -> list[Finding]:
    """Eight processes, a thousand dependencies, 2,000 calls a second over them."""
    plan = _plan(redis, per_s=2_000, seconds=12.0, dependencies=1_000)
    used: list[float] = []
    bank = Dependency("bank", limit=LimitPolicy())
    played = play(plan, bank, folder, meanwhile=lambda: used.append(_core(redis, 10)))
    sync = _quantiles([ms for told in played.told for ms in told.sync_ms[5:]])
    cost = _quantiles([ms for told in played.told for ms in told.cost_ms[5:]])
    trip = _quantiles([ms for told in played.told for ms in told.round_trip_ms[5:]])
    return [
        _most("Redis, 8 processes, 1,000 dependencies", used[0], "% of a core", 5),
        _most("sync of 1,000 dependencies, p50", sync[0], "ms", 5),
        _most("its round trip, p50", trip[0], "ms", 5),
        _most("its processor time in the process, p50", cost[0], "ms", 5),
    ]


def _core(redis: RedisServer, seconds: float) -> float:
    """What Redis used of a core over some seconds, in hundredths of one."""
    with Redis.from_url(redis.url) as client:
        before = _cpu_s(client)
        time.sleep(seconds)
        return (_cpu_s(client) - before) / seconds * 100


def _cpu_s(client: Redis) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _outage(redis: RedisServer, folder: Path) -> list[Finding]:
    """5,000 calls a second over eight processes; down for five seconds."""
    begin_s, end_s = 4.0, 9.0
    plan = _plan(redis, per_s=5_000, seconds=20.0, down=[(begin_s, end_s)])
    played = play(plan, BANK, folder)
    known_s = begin_s + plan.took_s
    late = [
        call.at_s
        for call in played.calls
        if known_s <= call.at_s < end_s and not call.is_probe
    ]
    probes = [call for call in played.calls if call.is_probe]
    usual = played.per_s(1.0, begin_s)
    return [
        _most(
            "outage noticed after",
            (max(late, default=known_s) - known_s) * 1_000,
            "ms",
            500,
        ),
        _most("probes at once", most_at_once(probes, plan.took_s), "", PROBES),
        _most("back to 90 % after", _back_s(played, end_s, usual), "s", 8),
        _most(
            "busiest half second after it, of that before",
            played.busiest(end_s, plan.seconds) / played.busiest(0.5, begin_s),
            "x",
            1.2,
        ),
        *_share_of_offered(plan, played, "with history"),
    ]


def _newborn(redis: RedisServer, folder: Path) -> list[Finding]:
    """Four processes that start during an outage, 200 calls a second each."""
    plan = _plan(redis, processes=4, per_s=800, seconds=15.0, down=[(0.0, 3.0)])
    return _share_of_offered(plan, play(plan, BANK, folder), "without history")


def _share_of_offered(plan: Plan, played: Played, kind: str) -> list[Finding]:
    """Calls made some seconds after the heal, of those offered."""
    healed_s = plan.down[-1][1]
    return [
        Finding(
            f"made {after_s:g} s after the heal, {kind}",
            100 * played.per_s(healed_s + after_s, healed_s + after_s + 1) / plan.per_s,
            "% of offered",
            None,
            None,
            least,
        )
        for after_s, least in ((5, 70), (10, 95))
    ]


def _back_s(played: Played, healed_s: float, usual: float) -> float:
    """From the heal until a tenth of a second that is as busy as usual."""
    at_s = healed_s
    while played.per_s(at_s, at_s + 0.1) < 0.9 * usual:
        at_s += 0.1
        if at_s > healed_s + 60:
            return at_s - healed_s
    return at_s - healed_s


def _retries(
    redis: RedisServer, folder: Path, meanwhile: Callable[[], None] | None = None
) -> Played:
    """2,000 first attempts a second over eight processes, of which six in ten fail."""
    plan = _plan(redis, per_s=2_000, seconds=30.0, fail_ratio=0.6)
    return play(plan, RETRIED, folder, meanwhile=meanwhile)


def _budget(redis: RedisServer, folder: Path) -> list[Finding]:
    excess = _excess(_retries(redis, folder))
    return [_most("retries over their budget", excess, "%", 5)]


def _silence(redis: RedisServer, folder: Path) -> list[Finding]:
    """Redis stands still for twenty of thirty seconds."""

    def stand_still() -> None:
        time.sleep(5)
        redis.pause()
        time.sleep(20)
        redis.resume()

    played = _retries(redis, folder, stand_still)
    before, meanwhile = _firsts(played, 1, 5), _firsts(played, 5.5, 24.5)
    slowest = max(told.decision_us[98] for told in played.told) / 1_000
    return [
        _most("the same without Redis", _excess(played), "%", 20),
        _most("decision without Redis, p99", slowest, "ms", 5),
        Finding("calls without Redis", meanwhile, "calls/s", "with Redis", before, 0.9),
    ]


def _excess(played: Played) -> float:
    return 100 * worst_excess(played.calls, ratio=RATIO, floor_per_s=FLOOR_PER_S)


def _firsts(played: Played, begin_s: float, end_s: float) -> float:
    made = [call for call in played.calls if begin_s <= call.at_s < end_s]
    return sum(not call.is_extra for call in made) / (end_s - begin_s)


def _quantiles(took_ms: list[float]) -> tuple[float, float]:
    took_ms.sort()
    return took_ms[len(took_ms) // 2], took_ms[len(took_ms) * 99 // 100]
