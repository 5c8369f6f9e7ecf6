"""What an app declares about its lanes, as a scaling answer needs it at one moment.

A lane holds jobs of any type of its queue. So a rule that is a job's holds for a lane
where it is every job's: its window, its being opportunistic, its dependency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from shifter.adapters.system import SystemClock
from shifter.api.app import Shifter
from shifter.fleet.hours import Hours
from shifter.fleet.view import BudgetRow, CircuitRow
from shifter.jobs.schedule import next_firing_ms
from shifter.model.job import JobSpec
from shifter.model.lane import Lane, Priority
from shifter.model.time import EpochMs
from shifter.ops.status import LaneRow, Overview
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.policy.scaling.load import Bottleneck, LaneLoad
from shifter.policy.schedule.hours import HoursOverride
from shifter.policy.schedule.opportunity import OpportunityPolicy, must_start_before

_NEARLY: Final = 0.9
"""Part of a rate limit from which it is the bottleneck: leases leave some calls."""


class QueueJobs(NamedTuple):
    """The jobs of one queue.

    Attributes:
        specs: All of them.
        dependencies: What they call; ``None`` for a job that calls nothing.
    """

    specs: list[JobSpec]
    dependencies: set[str | None]


class KnownLane(NamedTuple):
    """A lane with its name, which takes longer to make than to keep."""

    name: str
    lane: Lane


class LanePast(NamedTuple):
    """What earlier readings showed of a lane; see the fields of `LaneLoad`."""

    arrivals_per_s: float | None = None
    forecast_per_s: float | None = None
    cost_s: float | None = None


class LaneRules:
    """The rules of an app's lanes at the moment of one reading.

    Args:
        app: Declares jobs, windows and dependencies.
        overview: The reading: overrides, circuits, budgets.
    """

    def __init__(self, app: Shifter, overview: Overview) -> None:
        self._now = EpochMs(overview.as_of_ms)
        self._hours = Hours(SystemClock(), app.hours.rules)
        self._hours.set_by_hand(
            {
                row.scope: HoursOverride(
                    row.by_hand.to == "open",
                    self._now + int(row.by_hand.left_s * 1_000),
                )
                for row in overview.windows
                if row.by_hand is not None
            }
        )
        self._opportunity = OpportunityPolicy()
        self._queues: defaultdict[str, QueueJobs] = defaultdict(
            lambda: QueueJobs([], set())
        )
        for job in app.jobs.values():
            jobs, dependency = self._queues[job.spec.queue], job.dependency
            jobs.specs.append(job.spec)
            jobs.dependencies.add(None if dependency is None else dependency.name)
        self._with_windows = self._where_all(lambda spec: bool(spec.windows))
        self._opportunistic = self._where_all(lambda spec: spec.opportunistic)
        ended = {lane.queue: 0.0 for lane in overview.lanes}
        for lane in overview.lanes:
            ended[lane.queue] += lane.rate_per_s or 0.0
        self._ended = ended
        budgets = {row.dependency: row for row in overview.budgets}
        self._limits = {
            row.dependency: found
            for row in overview.circuits
            if (found := self._limit(app, row, budgets.get(row.dependency))) is not None
        }
        self._bottlenecks: dict[str, Bottleneck | None] = {}

    def _where_all(self, holds: Callable[[JobSpec], bool]) -> set[str]:
        """Queues of which every job has a property."""
        return {
            queue for queue, jobs in self._queues.items() if all(map(holds, jobs.specs))
        }

    def load_of(
        self, known: KnownLane, row: LaneRow, busy: float, past: LanePast
    ) -> LaneLoad:
        """What is measured of a lane in this reading.

        Args:
            known: The lane.
            row: Its row of the reading.
            busy: Workers that it uses.
            past: What earlier readings showed.
        """
        lane = known.lane
        return LaneLoad(
            lane=known.name,
            due=row.due,
            running=row.running or 0,
            delayed=row.delayed or 0,
            ended_per_s=row.rate_per_s or 0.0,
            busy=busy,
            arrivals_per_s=past.arrivals_per_s,
            forecast_per_s=past.forecast_per_s,
            cost_s=past.cost_s,
            deadline_s=row.tightest_deadline_s,
            opens_s=self._opens_s(known),
            is_low=lane.priority is Priority.LOW,
            starts_before_s=self._starts_before_s(known),
            partitions=row.partitions,
            bottleneck=self._bottleneck(lane.queue),
        )

    def fires_s(self, queues: Collection[str]) -> float | None:
        """Seconds until the next cron job of these queues; ``None`` without one."""
        crons = {
            spec.cron
            for queue in queues
            for spec in self._queues[queue].specs
            if spec.cron is not None
        }
        fires = [next_firing_ms(cron, self._now) for cron in crons]
        return (min(fires) - self._now) / 1_000 if fires else None

    def _opens_s(self, known: KnownLane) -> float:
        """Seconds until some job of the lane may start; 0 while one may."""
        queue = known.lane.queue
        if not (
            self._hours.by_hand
            or known.name in self._hours.rules
            or queue in self._with_windows
        ):
            return 0.0
        specs: Sequence[JobSpec | None] = self._queues[queue].specs or [None]
        opens = (self._hours.opening_ms(one, known.lane, self._now) for one in specs)
        return (min(opens) - self._now) / 1_000

    def _starts_before_s(self, known: KnownLane) -> float | None:
        lane = known.lane
        if lane.priority is not Priority.LOW:
            return None
        rule = self._hours.rules.get(known.name)
        is_quiet = rule is not None and rule.is_opportunistic
        if not is_quiet and lane.queue not in self._opportunistic:
            return None
        specs = self._queues[lane.queue].specs
        timeout_ms = max((spec.timeout_ms for spec in specs), default=0)
        before_ms = must_start_before(
            self._opportunity, now_ms=0, timeout_ms=timeout_ms
        )
        return before_ms / 1_000

    def _bottleneck(self, queue: str) -> Bottleneck | None:
        """The dependency that keeps the jobs of a queue; the first by name."""
        if not self._limits or queue not in self._queues:
            return None
        if queue not in self._bottlenecks:
            self._bottlenecks[queue] = self._find_bottleneck(queue)
        return self._bottlenecks[queue]

    def _find_bottleneck(self, queue: str) -> Bottleneck | None:
        called = self._queues[queue].dependencies
        found = [self._limits[name] for name in self._limits if name in called]
        if not found:
            return None
        first = min(found)
        is_whole = len(found) == len(called) and all(one.is_whole for one in found)
        return first._replace(is_whole=is_whole)

    def _limit(
        self, app: Shifter, row: CircuitRow, budget: BudgetRow | None
    ) -> Bottleneck | None:
        """What of a dependency bears no more calls; ``None`` while it bears some."""
        dependency = app.dependencies.get(row.dependency)
        dark = frozenset() if dependency is None else frozenset(dependency.dark)
        checks = (
            (Protection.CIRCUIT, _is_open(row)),
            (Protection.LIMIT, row.limit is not None and row.inflight >= row.limit),
            (Protection.RATE, self._is_at_rate(dependency)),
            (Protection.BUDGET, budget is not None and budget.left < 1 <= budget.made),
        )
        for by, is_limiting in checks:
            if is_limiting and by not in dark:
                is_whole = by is Protection.CIRCUIT
                return Bottleneck(row.dependency, by.value, is_whole)
        return None

    def _is_at_rate(self, dependency: Dependency | None) -> bool:
        """Whether as many jobs end as the rate allows calls, a call a job."""
        if dependency is None or dependency.rate is None:
            return False
        ended = sum(
            self._ended.get(queue, 0.0)
            for queue, jobs in self._queues.items()
            if jobs.dependencies == {dependency.name}
        )
        return ended >= _NEARLY * dependency.rate.per_s


def _is_open(row: CircuitRow) -> bool:
    """Whether the circuit keeps calls back: open, or probing; by hand before all."""
    if row.by_hand is not None:
        return row.by_hand.to == "open"
    return row.state != "closed"
