"""The choice of lanes for slots that became free.

``CRITICAL`` first, always. What it leaves is shared by weight between ``HIGH``,
``NORMAL`` and ``LOW``, then between the lanes (queues) of a priority: evenly, or by
weights of their own. No slot stays empty while anything waits.

**Sharing** is start-time fair queueing (`shifter.policy.schedule.fair_queue`): a slot
costs its taker ``1 / weight``, and the taker that is least ahead goes next.

Priorities are charged by starts. Lanes of a priority are charged by the time that they
hold slots, where the caller measures it: a start costs what the lane's jobs take on
average, and `charge` corrects that when it is known better.

**Ageing** lifts the weights of ``NORMAL`` and ``LOW`` with the time their oldest head
has stood in line, up to the weight of ``HIGH`` and no further: what is old enough
counts as much as a fresh ``HIGH`` job, never more.

**No starvation.** A priority with waiting jobs gets one of any
``1 + sum(1 + high_weight / its own weight)`` slots in a row that ``CRITICAL`` leaves,
the sum over the two others: with the default weights every 19th for ``LOW``, every 7th
for ``NORMAL``, every 5th for ``HIGH``, whatever the ages. Of ``n`` lanes of a priority
that cost the same, each gets one of any ``2 * n - 1`` slots in a row that its priority
gets; otherwise one of any ``1 + sum(1 + its own cost / another's)``, where a cost is
the time that a job takes over the weight. A flood of ``CRITICAL`` work
starves the rest by intent.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996 (tags, hierarchy,
fairness bound); ageing against starvation: Silberschatz, Galvin, Gagne, "Operating
System Concepts", priority scheduling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from shifter.errors import ConfigError
from shifter.model.lane import Priority
from shifter.policy.schedule.fair_queue import split

_MAX_WEIGHT = 100
"""Largest weight: at 100 to 1, the lowest weight still gets one slot in a hundred."""

_UNIT = 1 << 16
"""Cost of a slot at weight 1; the usual weights, powers of two, divide it evenly."""
_SHARED = (Priority.HIGH, Priority.NORMAL, Priority.LOW)

Backlog: TypeAlias = Mapping[str, tuple[Priority, int, int]]
"""By lane name: its priority, how many wait (>= 0), and for how many milliseconds the
first of them has. Among equals the lane listed first goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneChoicePolicy:
    """Settings of the choice.

    Attributes:
        high_weight: Share of ``HIGH``, 1 to 100, at least ``normal_weight``.
        normal_weight: Share of ``NORMAL``, at least ``low_weight``.
        low_weight: Share of ``LOW``, >= 1.
        ageing_ms: Time in line that doubles a weight (twice as long triples it), >= 1.
        lane_weights: Share of a lane among those of its priority, by lane name, 1 to
            100; 1 for those not named.

    Raises:
        ConfigError: A value is out of its range, or the order is not kept.
    """

    high_weight: int = 8
    normal_weight: int = 4
    low_weight: int = 1
    ageing_ms: int = 10_000
    lane_weights: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.low_weight < 1:
            raise ConfigError("low_weight", self.low_weight, "use at least 1")
        if self.normal_weight < self.low_weight:
            want = f"must be at least low_weight ({self.low_weight})"
            raise ConfigError("normal_weight", self.normal_weight, want)
        if not self.normal_weight <= self.high_weight <= _MAX_WEIGHT:
            want = f"use normal_weight ({self.normal_weight}) to {_MAX_WEIGHT}"
            raise ConfigError("high_weight", self.high_weight, want)
        if self.ageing_ms < 1:
            raise ConfigError("ageing_ms", self.ageing_ms, "use at least 1 ms")
        for name, weight in self.lane_weights.items():
            if not 1 <= weight <= _MAX_WEIGHT:
                raise ConfigError(
                    f"weight of {name}", weight, f"use 1 to {_MAX_WEIGHT}"
                )


@dataclass(frozen=True, slots=True)
class LaneChoiceState:
    """Virtual-time lead of each over the minimum; zero leads are omitted.

    Attributes:
        priorities: In units of a slot's cost.
        lanes: Per priority, in units of what a slot costs a lane.
    """

    priorities: Mapping[Priority, int] = field(default_factory=dict)
    lanes: Mapping[Priority, Mapping[str, int]] = field(default_factory=dict)


def charge(
    policy: LaneChoicePolicy,
    state: LaneChoiceState,
    owed: Mapping[Priority, Mapping[str, int]],
    waiting: Mapping[Priority, Collection[str]],
) -> LaneChoiceState:
    """Correct what lanes were charged when their jobs started.

    Args:
        policy: Weights.
        state: As returned by the last call.
        owed: What each lane is to be charged in addition, in the units of the costs of
            `choose`; negative to pay back.
        waiting: Lanes that have had jobs waiting since the last call. The correction
            counts between them; a priority without any of them forgets it. A lane that
            began to wait meanwhile, and owes nothing, starts level with the one of them
            that is least ahead.

    Returns:
        The next state.

    Pure. Linear in lanes.
    """
    lanes = dict(state.lanes)
    for priority, debts in owed.items():
        tags = dict(lanes.get(priority, {}))
        for name, debt in debts.items():
            tags[name] = tags.get(name, 0) + debt // policy.lane_weights.get(name, 1)
        since = [tags.get(name, 0) for name in waiting.get(priority, ())]
        if since:
            least = min(since)
            lifted = dict.fromkeys(waiting[priority], 0) | tags
            lanes[priority] = {
                name: tag - least for name, tag in lifted.items() if tag > least
            }
    return LaneChoiceState(state.priorities, lanes)


def choose(
    policy: LaneChoicePolicy,
    state: LaneChoiceState,
    backlog: Backlog,
    slots: int,
    costs: Mapping[str, int] = MappingProxyType({}),
) -> tuple[LaneChoiceState, list[tuple[str, int]]]:
    """Share out free slots.

    Args:
        policy: Weights and ageing.
        state: As returned by the last call; at first `LaneChoiceState()`.
        backlog: The lanes, empty ones allowed.
        slots: How many may start now, >= 0.
        costs: What a start costs each lane at weight 1, by lane name, >= 1, for all
            lanes of a priority or for none of them; the same for all if not given.

    Returns:
        The next state, and how many of which lane start (each lane at most once, > 0),
        ``CRITICAL`` first. The counts sum up to ``slots``, or to all that wait if that
        is less.

    Pure. Linear in lanes; it grows with the logarithm of ``slots``.
    """
    lanes, oldest_ms = _by_priority(backlog)
    totals = {priority: sum(lines.values()) for priority, lines in lanes.items()}
    critical = min(totals.get(Priority.CRITICAL, 0), slots)
    shared = {priority: totals[priority] for priority in _SHARED if priority in totals}
    prices = [_cost(policy, priority, oldest_ms[priority]) for priority in shared]
    priorities, counts = split(state.priorities, shared, prices, slots - critical)
    counts[Priority.CRITICAL] = critical
    after = dict(state.lanes)
    picks: list[tuple[str, int]] = []
    for priority in Priority:
        if counts.get(priority):
            after[priority], taken = split(
                after.get(priority, {}),
                lanes[priority],
                _lane_costs(policy, lanes[priority], costs),
                counts[priority],
            )
            picks += taken.items()
    return LaneChoiceState(priorities, after), picks


def _by_priority(
    backlog: Backlog,
) -> tuple[dict[Priority, dict[str, int]], dict[Priority, int]]:
    """For each priority how many wait in its lanes, and the age of its oldest head."""
    lanes: dict[Priority, dict[str, int]] = {}
    oldest_ms: dict[Priority, int] = {}
    for name, (priority, waiting, head_age_ms) in backlog.items():
        if waiting > 0:
            lanes.setdefault(priority, {})[name] = waiting
            oldest_ms[priority] = max(oldest_ms.get(priority, 0), head_age_ms)
    return lanes, oldest_ms


def _cost(policy: LaneChoicePolicy, priority: Priority, age_ms: int) -> int:
    """What a slot costs a priority whose oldest head has waited so long."""
    weight = policy.high_weight
    if priority is Priority.NORMAL:
        weight = policy.normal_weight
    elif priority is Priority.LOW:
        weight = policy.low_weight
    aged = _UNIT * policy.ageing_ms // (weight * (policy.ageing_ms + age_ms))
    # Rounded up so that no priority is cheaper than HIGH.
    return max(aged, -(-_UNIT // policy.high_weight))


def _lane_costs(
    policy: LaneChoicePolicy, lanes: Iterable[str], costs: Mapping[str, int]
) -> list[int]:
    """What a slot costs each lane of a priority."""
    names = list(lanes)
    if costs and all(name in costs for name in names):
        return [
            max(1, costs[name] // policy.lane_weights.get(name, 1)) for name in names
        ]
    weights = [policy.lane_weights.get(name, 1) for name in names]
    if not policy.lane_weights:
        return weights
    return [_UNIT // weight for weight in weights]
