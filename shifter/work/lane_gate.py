"""Which lanes may start items now: execution windows, and the quiet time.

A closed lane keeps its records in the log: none is fetched, and those that were
fetched do not start. Nothing is written for them, however long the backlog is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shifter.fleet.hours import BusyFlag, Hours
from shifter.fleet.replica import FleetReplica
from shifter.model.job import JobSpec
from shifter.model.lane import Lane, Priority
from shifter.model.time import EpochMs
from shifter.policy.schedule.hours import HoursOverride
from shifter.policy.schedule.lane_choice import (
    LaneChoicePolicy,
    LaneChoiceState,
    choose,
)
from shifter.policy.schedule.opportunity import (
    ALL_MILLI,
    LoadSigns,
    OpportunityPolicy,
    OpportunityState,
    must_start_before,
    observe,
    room,
)
from shifter.ports import Clock, DelayMover, LaneFeed, sleep_or_wake
from shifter.work.buffer import Buffer
from shifter.work.item import Item

QUIET_MOST: Final = 1_000
"""Items of a lane that wait for a quiet time in memory; more stay in the log."""

BUSY_LOAD: Final = 0.8
"""A process that reports this load, of 1, counts as loaded."""

_LOOK_S: Final = 0.1
_LOOK_MS: Final = 500
_FAR_S: Final = 30.0
_RUSH_MS: Final = 60_000


@dataclass(kw_only=True, eq=False)
class LaneGate:
    """Opens and closes lanes. Owned by one event loop.

    Attributes:
        lanes: Lanes served, by topic.
        feeds: That deliver their records, by priority.
        specs: Registered jobs, by name.
        buffer: Where fetched items wait.
        replica: This process's copy of the fleet's state of dependencies.
        clock: Reads and waits.
        slots: Attempts at once.
        opened: Called when more may start.
        hours: Of lanes and jobs.
        mover: Moves delayed records; ``None`` where no mover is needed.
        policy: Of opportunistic work.
        quiet_lanes: Topics of lanes that are drained in a quiet time only.
        busy_flag: Set for the fleet while work that may start at once waits here.
        has_rules: Whether hours or a quiet time are declared, which the fleet shares.
    """

    lanes: Mapping[str, Lane]
    feeds: Mapping[Priority, LaneFeed]
    specs: Mapping[str, JobSpec]
    buffer: Buffer
    replica: FleetReplica
    clock: Clock
    slots: int
    opened: Callable[[], None]
    hours: Hours
    mover: DelayMover | None = None
    policy: OpportunityPolicy = field(default_factory=OpportunityPolicy)

    def __post_init__(self) -> None:
        hours, specs = self.hours, self.specs.values()
        self._state = OpportunityState()
        self._choice, self._chosen = LaneChoicePolicy(), LaneChoiceState()
        self._refused, self._limits = 0, 0
        self._rested = self._stopped = self._full = frozenset[str]()
        self._changed = asyncio.Event()
        self._using: set[Item] = set()
        self._look_at_ms = 0
        self.quiet_lanes = frozenset(
            name for name, rule in hours.rules.items() if rule.is_opportunistic
        )
        self._timeout_ms = max((spec.timeout_ms for spec in specs), default=0)
        has_quiet = bool(self.quiet_lanes) or any(
            spec.opportunistic or spec.repair for spec in specs
        )
        self._has_windows = any(spec.windows for spec in specs)
        self.has_rules = has_quiet or self._has_windows or bool(hours.rules)
        self.busy_flag = BusyFlag(self.clock, self.is_busy if has_quiet else None)
        self.replica.tenants += [hours, self.busy_flag]
        hours.changed = self._hours_changed
        # Most programs have no hours, and every job asks.
        self._is_plain = not self._has_windows and not hours.is_limiting
        self._overrides_seen = hours.by_hand
        self._rushed: Mapping[str, HoursOverride] | None = None
        self._rush_until_ms = 0

    def _hours_changed(self) -> None:
        """Note that an operator overrode execution windows."""
        self._is_plain = not self._has_windows and not self.hours.is_limiting
        self._changed.set()

    def refresh(self) -> None:
        """Call `look` if the last look is old or an item waits for a quiet time."""
        if self.buffer.quiet or (
            self.hours.rules and self.clock.epoch_ms() >= self._look_at_ms
        ):
            self.look()

    def look(self) -> None:
        """Open and close lanes, and find out whether the time is quiet."""
        buffer, now_ms = self.buffer, self.clock.epoch_ms()
        self._look_at_ms = now_ms + _LOOK_MS
        closed = frozenset(
            topic
            for topic, lane in self.lanes.items()
            if self.hours.is_lane_closed(lane, now_ms)
        )
        buffer.closed = closed
        self._rush(now_ms)
        full = {
            topic
            for topic in self.lanes
            if topic in self.quiet_lanes and buffer.quiet_on(topic) >= QUIET_MOST
        }
        self._stopped = closed | full
        self._rest()
        if buffer.quiet:
            before_ms = must_start_before(
                self.policy, now_ms=now_ms, timeout_ms=self._timeout_ms
            )
            buffer.hurry(before_ms)
            self._observe()

    def set_full(self, topics: frozenset[str]) -> None:
        """Stop fetching these lanes, beside those that are closed."""
        if topics != self._full:
            self._full = topics
            self._rest()

    def _rest(self) -> None:
        # Only a change is passed on: a feed that pauses a partition discards what it
        # has read ahead.
        if (rested := self._stopped | self._full) != self._rested:
            self._rested = rested
            for feed in self.feeds.values():
                feed.rest(rested)

    def is_busy(self) -> bool:
        """Whether work that may start at once has waited for too long here."""
        now = self.clock.monotonic()
        ages = [b.head_age_ms for b in self.buffer.backlog(now=now).values()]
        return max(ages, default=0) >= self.policy.queued_ms

    def sees_load(self) -> bool:
        """Whether a process of the fleet reports that it is loaded."""
        return self.replica.highest_load >= BUSY_LOAD

    def room(self, free: int) -> int:
        """How many opportunistic items may start now.

        Args:
            free: Slots that no other item needs.
        """
        if not self.buffer.quiet:
            return 0
        return room(
            self.policy,
            self._state,
            slots=self.slots,
            free=free,
            running=len(self._using),
        )

    def has_work(self, free: int) -> bool:
        """Whether anything could start, with so many free slots."""
        return free > 0 and (self.buffer.ready > 0 or self.room(free) > 0)

    def take(self, free: int) -> list[Item]:
        """Take opportunistic items, as many as `room` allows."""
        number, buffer = self.room(free), self.buffer
        if not number:
            return []
        backlog = buffer.quiet_backlog(now=self.clock.monotonic())
        self._chosen, picks = choose(self._choice, self._chosen, backlog, number)
        taken = buffer.take_quiet(picks)
        self._using.update(taken)
        return taken

    def left(self, item: Item) -> None:
        """Note that an item of `take` ended, or was not run."""
        self._using.discard(item)

    def due_ms(self, item: Item, now: EpochMs) -> EpochMs:
        """When an item may start, by its own due time and its hours; from now on.

        What comes to a lane that is closed stands still there and is not put off.
        """
        due, hours, job = item.due_ms(now), self.hours, item.job
        if self._is_plain:
            return due
        if item.delivery.topic in self.buffer.closed:
            return due
        return hours.opening_ms(None if job is None else job.spec, item.lane, due)

    def is_crowded(self, item: Item) -> bool:
        """Whether an item would hold up items of its lane that may start."""
        topic = item.delivery.topic
        return (
            item.is_opportunistic
            and item.key_id is None
            and topic not in self.quiet_lanes
            and self.buffer.quiet_on(topic) >= QUIET_MOST
        )

    @property
    def next_at(self) -> float | None:
        """When time alone may change something, monotonic; ``None`` never."""
        buffer = self.buffer
        now, now_ms = self.clock.monotonic(), self.clock.epoch_ms()
        instants = [
            self.hours.opening_ms(None, self.lanes[topic], now_ms)
            for topic in buffer.closed
        ]
        if (end_ms := self.hours.next_end_ms(now_ms)) is not None:
            instants.append(EpochMs(end_ms))
        if buffer.quiet:
            instants += self._quiet_instants(now_ms, int(now * 1_000))
        found = [now + max(1, at - now_ms) / 1_000 for at in instants]
        return min(found, default=None)

    def _quiet_instants(self, now_ms: int, mono_ms: int) -> list[EpochMs]:
        """When time alone lets something start that waits for a quiet time."""
        buffer, state, instants = self.buffer, self._state, list[int]()
        if (deadline_ms := buffer.next_deadline_ms) is not None:
            lead_ms = must_start_before(
                self.policy, now_ms=0, timeout_ms=self._timeout_ms
            )
            instants.append(deadline_ms - lead_ms + 1)
        if self.busy_flag.is_set:
            instants.append(self.busy_flag.until_ms)
        elif self.sees_load():
            pass
        elif state.share_milli == 0:
            instants.append(now_ms + max(1, state.idle_from_ms - mono_ms))
        elif state.share_milli < ALL_MILLI:
            instants.append(now_ms + self.policy.interval_ms)
        return [EpochMs(max(now_ms + 1, at)) for at in instants]

    async def run(self) -> None:
        """Look whenever something may have changed, until cancelled."""
        while True:
            self._changed.clear()
            self.look()
            self.opened()
            await self._wait(self.next_at)

    async def _wait(self, at: float | None) -> None:
        """Wait until an instant, or until news; the wall clock may be set meanwhile."""
        clock, quiet = self.clock, self.buffer.quiet
        if at is None and not quiet and not self.hours.rules:
            await self._changed.wait()
            return
        left_s = _FAR_S if at is None else at - clock.monotonic()
        if quiet:
            # Load of other processes sets no event, so it is polled.
            left_s = min(left_s, _LOOK_S)
        await sleep_or_wake(clock, min(max(0.0, left_s), _FAR_S), self._changed)

    def arrived(self) -> None:
        """Something came that may have to wait for a quiet time, or stand still."""
        if self.buffer.quiet or self.hours.rules:
            self._changed.set()

    def _rush(self, now: EpochMs) -> None:
        """Bring forward what waits in the log for hours that operators have overridden.

        For a while also after the last setting is gone: what was put off because of it
        may start now.
        """
        mover, hours = self.mover, self.hours
        if mover is None:
            return
        if (
            hours.by_hand is not self._overrides_seen
            or hours.next_end_ms(now) is not None
        ):
            self._rush_until_ms = now + _RUSH_MS
        overrides = hours.by_hand if now < self._rush_until_ms else None
        if overrides is not self._rushed:
            mover.rush(None if overrides is None else self._may_start)
        self._rushed, self._overrides_seen = overrides, hours.by_hand

    def _may_start(self, job: str, lane: Lane) -> bool:
        spec, now = self.specs.get(job), self.clock.epoch_ms()
        return spec is not None and self.hours.opening_ms(spec, lane, now) <= now

    def _observe(self) -> None:
        replica, clock = self.replica, self.clock
        refused = limits = 0
        for protection in replica.protections.values():
            refused += sum(protection.refused.values())
            if protection.limit is not None:
                limits += int(protection.limit.state.limit)
        is_strained = refused > self._refused or limits < self._limits
        is_busy = self.is_busy() or self.busy_flag.is_set or self.sees_load()
        before = self._state
        self._state = observe(
            self.policy,
            before,
            LoadSigns(is_busy, is_strained),
            now_ms=int(clock.monotonic() * 1_000),
        )
        if self._state is not before:
            self._refused, self._limits = refused, limits
