"""How many workers each group of an app should have, from what is read of its fleet.

`Planner` makes the measurements of `shifter.policy.scaling` out of one reading. It
remembers readings only where it is asked to: a single answer needs no memory, and a
controller that asks again and again wants a number that does not jump.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from shifter import wiring
from shifter.api.app import Shifter
from shifter.api.worker_group import WorkerGroup
from shifter.errors import StoreRefusedError
from shifter.fleet.view import look
from shifter.model.lane import Lane, Priority
from shifter.ops.scaling_lanes import KnownLane, LanePast, LaneRules
from shifter.ops.status import (
    LaneRow,
    Overview,
    StatusSources,
    lane_rows,
    lanes_of,
)
from shifter.policy.scaling.arrivals import (
    Arrivals,
    HourlyRates,
    expected_per_s,
    learn_hour,
    observe_arrivals,
)
from shifter.policy.scaling.hold import HoldState, starting_with
from shifter.policy.scaling.load import GroupLoad, LaneLoad
from shifter.policy.scaling.size import GroupSize, size_group
from shifter.ports import Clock, WorkerReport

OWN_START_S: Final = 3.0
"""What a worker process takes to its first job where none was measured. A process on
Kafka takes about one second (`python -m benchmarks.first_job`), one on a busy machine
more."""


class ScaleGroup(msgspec.Struct, frozen=True):
    """One worker group, as ``shifter scale --json`` prints it: a published contract.

    Attributes:
        name: Its name.
        current: Live workers.
        desired: Workers that it should have.
        due_backlog_s: Seconds of work for one worker that may start now, >= 0. Of work
            whose cost is not known, what its workers do by the target.
        reason: What decided: a value of
            `shifter.policy.scaling.settings.ScalingReason`.
        tightest_deadline_s: Seconds until the earliest deadline of its lanes; ``None``
            without one.
        is_measured: Whether the cost of the work is known; not before the first job of
            a group has ended, nor of a fallback.
    """

    name: str
    current: int
    desired: int
    due_backlog_s: float
    reason: str
    tightest_deadline_s: float | None = None
    is_measured: bool = True


class ScaleReport(msgspec.Struct, frozen=True):
    """All worker groups of an app.

    Attributes:
        as_of_ms: When the fleet was read, epoch milliseconds.
        groups: By name, the default group last.
    """

    as_of_ms: int
    groups: list[ScaleGroup]


class LaneMemory(NamedTuple):
    """What was seen of a lane before.

    Attributes:
        arrivals: Jobs that become due.
        hours: The same on earlier days.
        cost_s: What a job costs, seconds of one worker; ``None`` if it is not known.
    """

    arrivals: Arrivals | None = None
    hours: HourlyRates = HourlyRates()
    cost_s: float | None = None


_FORGETFUL: Final = LanePast()


class Planner:
    """Says how many workers each group of an app should have.

    Args:
        app: Declares groups, jobs, windows and dependencies.
        clock: Monotonic and wall clock.
        remembers: Whether later answers depend on earlier ones: the hold, observed
            arrivals, what a job cost, and the forecast.

    Attributes:
        sizes: The last answer with all its steps, by group.

    Raises:
        ConfigError: A group's floor is above its ceiling, or a setting is wrong.
    """

    def __init__(self, app: Shifter, clock: Clock, *, remembers: bool) -> None:
        self._app, self._clock, self._remembers = app, clock, remembers
        self.groups = app.worker_groups(app.queues)
        self.policies = {g.name: g.policy(app.settings) for g in self.groups}
        self.sizes: dict[str, GroupSize] = {}
        self._order = {g.name: sorted(g.lanes) for g in self.groups}
        self._lanes: defaultdict[str, LaneMemory] = defaultdict(LaneMemory)
        self._names = {
            Lane(app.namespace, queue, priority).name
            for group in self.groups
            for queue, priority in group.lanes
        }
        self._known: dict[tuple[str, str], KnownLane] = {}
        self._homes: dict[tuple[str, ...], str | None] = {}

    def recall(self, histories: Mapping[str, Mapping[int, float]]) -> None:
        """Expect what was learnt of the lanes before; hours seen here come first.

        Args:
            histories: Jobs that became due a second by hour of the day, by lane.
        """
        for lane in self._names & histories.keys():
            memory = self._lanes[lane]
            means = {**histories[lane], **memory.hours.means}
            hours = memory.hours._replace(means=means)
            self._lanes[lane] = memory._replace(hours=hours)

    def learnt(self) -> dict[str, Mapping[int, float]]:
        """What was learnt of each lane so far, as `recall` takes it."""
        return {
            lane: memory.hours.means
            for lane, memory in self._lanes.items()
            if memory.hours.means
        }

    def plan(self, overview: Overview) -> ScaleReport:
        """The answer to one reading, of which dead letters and quality do not matter.

        Raises:
            ConfigError: A cron expression of the app cannot be read.
        """
        rules = LaneRules(self._app, overview)
        loads = self._loads(overview, rules)
        workers = self._workers(overview.workers)
        found = []
        for group in self.groups:
            own = [loads[lane] for lane in self._order[group.name] if lane in loads]
            size = self._size(group, own, workers[group.name], rules)
            self.sizes[group.name] = size
            deadlines = [one.deadline_s for one in own if one.deadline_s is not None]
            found.append(
                ScaleGroup(
                    name=group.name,
                    current=len(workers[group.name]),
                    desired=size.desired,
                    due_backlog_s=size.due_backlog_s,
                    reason=size.reason.value,
                    tightest_deadline_s=min(deadlines, default=None),
                    is_measured=size.is_measured,
                )
            )
        return ScaleReport(overview.as_of_ms, found)

    def _size(
        self,
        group: WorkerGroup,
        lanes: Sequence[LaneLoad],
        workers: Sequence[WorkerReport],
        rules: LaneRules,
    ) -> GroupSize:
        policy = self.policies[group.name]
        measured = [w.start_up_ms for w in workers if w.start_up_ms is not None]
        own_s = statistics.median(measured) / 1_000 if measured else OWN_START_S
        load = GroupLoad(
            name=group.name,
            workers=len(workers),
            lead_s=policy.start_up_ms / 1_000 + own_s,
            lanes=lanes,
            fires_s=rules.fires_s({queue for queue, _ in group.lanes}),
        )
        now_ms = int(self._clock.monotonic() * 1_000)
        return size_group(policy, load, self._held(load, now_ms), now_ms=now_ms)

    def _held(self, load: GroupLoad, now_ms: int) -> HoldState | None:
        if not self._remembers:
            return None
        before = self.sizes.get(load.name)
        if before is None:
            return starting_with(load.workers, now_ms=now_ms)
        return before.held

    def _loads(
        self, overview: Overview, rules: LaneRules
    ) -> dict[tuple[str, str], LaneLoad]:
        busy: defaultdict[str, float] = defaultdict(float)
        for worker in overview.workers:
            for topic, share in worker.busy.items():
                busy[topic] += min(share, 1.0)
        found = {}
        for row in overview.lanes:
            at = row.queue, row.priority
            if at not in self._known:
                lane = Lane(self._app.namespace, row.queue, Priority(row.priority))
                self._known[at] = KnownLane(lane.name, lane)
            known, past = self._known[at], _FORGETFUL
            used = busy.get(known.name, 0.0)
            if self._remembers:
                past = self._recall(known.name, row, used, overview.as_of_ms)
            found[at] = rules.load_of(known, row, used, past)
        return found

    def _recall(self, lane: str, row: LaneRow, busy: float, as_of_ms: int) -> LanePast:
        """What was seen of a lane before and with this reading."""
        memory, now_s = self._lanes[lane], self._clock.monotonic()
        before, hours, ended_per_s = memory.arrivals, memory.hours, row.rate_per_s or 0
        arrivals = observe_arrivals(
            before, due=row.due, ended_per_s=ended_per_s, now_s=now_s
        )
        if before is not None and arrivals.per_s is not None:
            passed_s = max(0.0, arrivals.at_s - before.at_s)
            hours = learn_hour(
                hours, per_s=arrivals.per_s, passed_s=passed_s, now_ms=as_of_ms
            )
        cost_s = busy / ended_per_s if busy and ended_per_s else memory.cost_s
        self._lanes[lane] = LaneMemory(arrivals, hours, cost_s)
        return LanePast(arrivals.per_s, expected_per_s(hours, at_ms=as_of_ms), cost_s)

    def _workers(
        self, reports: Iterable[WorkerReport]
    ) -> defaultdict[str, list[WorkerReport]]:
        """Live workers by group: each belongs to the one it shares most lanes with.

        One that drains takes no more work, and is on its way out.
        """
        found: defaultdict[str, list[WorkerReport]] = defaultdict(list)
        for report in reports:
            if report.is_draining:
                continue
            serves = (*report.queues, "", *report.priorities)
            if serves not in self._homes:
                self._homes[serves] = self._home(report)
            if (home := self._homes[serves]) is not None:
                found[home].append(report)
        return found

    def _home(self, report: WorkerReport) -> str | None:
        served = _served(report)
        shared = {g.name: len(g.lanes & served) for g in self.groups}
        best = max(shared, key=lambda name: shared[name], default=None)
        return best if best is not None and (shared[best] or not served) else None


def _served(report: WorkerReport) -> set[tuple[str, Priority]]:
    """The lanes of a worker; none where it is of an older release."""
    known = {priority.value: priority for priority in Priority}
    return {
        (queue, known[priority])
        for queue in report.queues
        for priority in report.priorities
        if priority in known
    }


async def read_for_scaling(sources: StatusSources) -> Overview:
    """Read what a scaling answer needs: lanes, workers, dependencies and overrides.

    Raises:
        StoreError: The log or the state store does not answer. A number that is made
            without one of them would be wrong.
    """
    if sources.presence is None or sources.fleet is None:
        want = "a worker's rate is read from the state store, and none is configured"
        raise StoreRefusedError("the state store", "scale", want)
    lanes = lanes_of(sources.namespace, await sources.admin.topics())
    depths = await sources.admin.depths([lane.name for lane in lanes])
    workers = await sources.presence.workers()
    fleet = await look(sources.fleet, wiring.new_worker_id())
    now_ms = sources.clock.epoch_ms()
    return Overview(
        as_of_ms=now_ms,
        lanes=lane_rows(lanes, depths, workers, now_ms),
        dead_letters=[],
        circuits=fleet.circuits,
        budgets=fleet.budgets,
        workers=workers,
        quality=fleet.quality,
        windows=fleet.windows,
    )
