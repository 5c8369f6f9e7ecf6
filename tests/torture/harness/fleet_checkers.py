"""What must hold of every history of a fleet: C11, C12 and C23 of the test plan.

The history is what the dependency saw (calls, each marked as retry or probe) and what
each member learnt (changes of the circuit); `benchmarks.fleet_member` writes both down.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from benchmarks.fleet_history import (
    Plan,
    Played,
    Turn,
    most_at_once,
    worst_excess,
)
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.circuit.policy import CircuitPolicy
from tests.torture.harness.violation import Violation

NOTICED_S: Final = 0.5
"""From the first failures until nobody calls any more."""
SHARED_EXCESS: Final = 0.05
ALONE_EXCESS: Final = 0.2
HERD: Final = 1.2
"""The busiest half second after the heal, over that before, that is no herd yet."""
_LEGAL: Final = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "open"),
    ("half_open", "closed"),
}


class Trial(NamedTuple):
    """A history, and what was done to it.

    Attributes:
        plan: What was played.
        circuit: The circuit's settings.
        budget: The budget's.
        played: What happened.
        forgot: Whether the store lost anything, or could not be reached.
    """

    plan: Plan
    circuit: CircuitPolicy
    budget: BudgetPolicy
    played: Played
    forgot: bool = False


def c11_circuit(trial: Trial) -> Iterator[Violation]:
    """Open means probes only, few at once; changes are legal, generations only grow."""
    plan, played = trial.plan, trial.played
    for begin_s, end_s in plan.down:
        shut_s = begin_s + plan.took_s + NOTICED_S
        late = [c for c in played.calls if shut_s <= c.at_s < end_s and not c.is_probe]
        if late:
            text = f"{len(late)} calls that are no probes while it is open"
            yield Violation("C11", f"{text}, the last at {late[-1].at_s:.2f} s")
    probes = [call for call in played.calls if call.is_probe]
    at_once = most_at_once(probes, plan.took_s)
    if at_once > trial.circuit.probes and not trial.forgot:
        yield Violation("C11", f"{at_once} probes at once")
    by_member: dict[str, list[Turn]] = {}
    for turn in played.turns:
        by_member.setdefault(turn.member, []).append(turn)
    for member, turns in by_member.items():
        yield from _illegal(member, turns)


def _illegal(member: str, turns: list[Turn]) -> Iterator[Violation]:
    for before, after in pairwise(turns):
        step = after.generation - before.generation
        if step <= 0:
            text = f"{member}: generation {before.generation}, then {after.generation}"
            yield Violation("C11", text)
        elif step == 1 and (before.state, after.state) not in _LEGAL:
            text = f"{member}: {before.state}, then {after.state}"
            yield Violation("C11", text)


def c11_comes_back(trial: Trial) -> Iterator[Violation]:
    """Soon after the heal everybody calls again, and not all at once."""
    plan, played, circuit = trial.plan, trial.played, trial.circuit
    if not plan.down:
        return
    healed_s = plan.down[-1][1]
    usual = played.per_s(0.5, plan.down[0][0])
    wait_ms = circuit.max_cooldown_ms + circuit.ramp_ms
    back_s = healed_s + wait_ms / 1_000 + plan.took_s + 1.5
    if played.per_s(back_s, plan.seconds) < 0.8 * usual:
        yield Violation("C11", f"not back {back_s - healed_s:.1f} s after the heal")
    peak = played.busiest(healed_s, plan.seconds)
    before = played.busiest(0.5, plan.down[0][0])
    if peak > HERD * before:
        text = f"a herd: {peak:.0f} calls a second after the heal, {before:.0f} before"
        yield Violation("C11", text)


def c12_budget(trial: Trial) -> Iterator[Violation]:
    """Retries within their budget, over every window of its ttl."""
    policy = trial.budget
    excess = worst_excess(
        trial.played.calls,
        ratio=policy.ratio,
        floor_per_s=policy.floor_per_s,
        window_s=policy.ttl_ms / 1_000,
    )
    most = ALONE_EXCESS if trial.forgot else SHARED_EXCESS
    if excess > most:
        yield Violation("C12", f"{excess:.0%} too many retries, allowed {most:.0%}")


def c23_amnesia(trial: Trial, since_s: float, until_s: float) -> Iterator[Violation]:
    """What the store forgets costs advice: calls go on, and decisions do not wait.

    Args:
        trial: The history.
        since_s: From here on the store was away, or had forgotten.
        until_s: To here.
    """
    played = trial.played
    usual = _firsts_per_s(played, 0.5, 2.0)
    slowest_us = max(told.decision_us[98] for told in played.told)
    if slowest_us > 5_000:
        yield Violation("C23", f"a decision took {slowest_us / 1_000:.1f} ms")
    firsts = _firsts_per_s(played, since_s, until_s)
    if firsts < 0.9 * usual:
        yield Violation("C23", f"{firsts:.0f} first attempts a second, not {usual:.0f}")


def _firsts_per_s(played: Played, begin_s: float, end_s: float) -> float:
    made = (c for c in played.calls if begin_s <= c.at_s < end_s)
    return sum(not call.is_extra for call in made) / (end_s - begin_s)
