"""Which lanes may start items now: execution windows, and the quiet time.

A closed lane keeps its records in the log: none is fetched, and those that were
fetched do not start. Nothing is written for them, however long the backlog is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from shifter.fleet.busy_flag import BusyFlag
from shifter.fleet.hours import Hours
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
from shifter.work.parts import DrainParts

QUIET_MOST: Final = 1_000
"""Items of a lane that wait for a quiet time in memory; more stay in the log."""

BUSY_LOAD: Final = 0.8
"""A process that reports this load, of 1, counts as loaded."""

_LOOK_S: Final = 0.1
_LOOK_MS: Final = 500
_FAR_S: Final = 30.0
_RUSH_MS: Final = 60_000


class LaneGateParts(NamedTuple):
    """What a lane gate looks at.

    Attributes:
        lanes: Lanes served, by topic.
        feeds: That deliver their records, by priority.
        mover: Moves delayed records; ``None`` where no mover is needed.
        buffer: Where fetched items wait.
        hours: Of lanes and jobs.
        board: What is known of dependencies and the fleet.
        clock: Reads and waits.
        slots: Attempts at once.
        specs: Registered jobs, by name.
    """

    lanes: Mapping[str, Lane]
    feeds: Mapping[Priority, LaneFeed]
    mover: DelayMover | None
    buffer: Buffer
    hours: Hours
    board: FleetReplica
    clock: Clock
    slots: int
    specs: Mapping[str, JobSpec]


class LaneGate:
    """Opens and closes lanes. Owned by one event loop.

    Args:
        parts: What it looks at.
        opened: Called when more may start.
        policy: Of opportunistic work.

    Attributes:
        quiet_lanes: Topics of lanes that are drained in a quiet time only.
        sign: Of load, shared with the fleet.
        hears_often: Whether hours or a quiet time are declared, which the fleet shares.
    """

    def __init__(
        self,
        parts: LaneGateParts,
        opened: Callable[[], None],
        policy: OpportunityPolicy | None = None,
    ) -> None:
        self._parts, self._hours, self._opened = parts, parts.hours, opened
        self._policy = OpportunityPolicy() if policy is None else policy
        self._state = OpportunityState()
        self._choice, self._chosen = LaneChoicePolicy(), LaneChoiceState()
        self._refused, self._limits = 0, 0
        self._rested = self._stopped = self._full = frozenset[str]()
        self._news = asyncio.Event()
        self._using: set[Item] = set()
        self._look_at_ms = 0
        self.quiet_lanes = frozenset(
            name for name, rule in parts.hours.rules.items() if rule.is_opportunistic
        )
        specs = parts.specs.values()
        self._timeout_ms = max((spec.timeout_ms for spec in specs), default=0)
        has_quiet = bool(self.quiet_lanes) or any(
            spec.opportunistic or spec.repair for spec in specs
        )
        self._has_windows = any(spec.windows for spec in specs)
        has_hours = self._has_windows or bool(parts.hours.rules)
        self.hears_often = has_quiet or has_hours
        self.sign = BusyFlag(parts.clock, self.is_busy if has_quiet else None)
        parts.board.tenants += [parts.hours, self.sign]
        parts.hours.changed = self._hear
        # Most programs know no hours, and every job asks.
        self._is_plain = not self._has_windows and not parts.hours.is_limiting
        self._heard = parts.hours.by_hand
        self._rushed: Mapping[str, HoursOverride] | None = None
        self._rush_until_ms = 0

    def _hear(self) -> None:
        """Note that an operator overrode execution windows."""
        self._is_plain = not self._has_windows and not self._hours.is_limiting
        self._news.set()

    def refresh(self) -> None:
        """Call `look` if the last look is old or an item waits for a quiet time."""
        if self._parts.buffer.quiet or (
            self._parts.hours.rules and self._parts.clock.epoch_ms() >= self._look_at_ms
        ):
            self.look()

    def look(self) -> None:
        """Open and close lanes, and find out whether the time is quiet."""
        parts, now_ms = self._parts, self._parts.clock.epoch_ms()
        self._look_at_ms = now_ms + _LOOK_MS
        closed = frozenset(
            topic
            for topic, lane in parts.lanes.items()
            if parts.hours.is_lane_closed(lane, now_ms)
        )
        parts.buffer.closed = closed
        self._rush(now_ms)
        full = {
            topic
            for topic in parts.lanes
            if topic in self.quiet_lanes and parts.buffer.quiet_on(topic) >= QUIET_MOST
        }
        self._stopped = closed | full
        self._rest()
        if parts.buffer.quiet:
            before_ms = must_start_before(
                self._policy, now_ms=now_ms, timeout_ms=self._timeout_ms
            )
            parts.buffer.hurry(before_ms)
            self._observe()

    def set_full(self, topics: frozenset[str]) -> None:
        """Stop fetching these lanes, beside those that are closed."""
        if topics != self._full:
            self._full = topics
            self._rest()

    def _rest(self) -> None:
        if (rested := self._stopped | self._full) != self._rested:
            self._rested = rested
            for feed in self._parts.feeds.values():
                feed.rest(rested)

    def is_busy(self) -> bool:
        """Whether work that may start at once has waited for too long here."""
        now = self._parts.clock.monotonic()
        ages = [b.head_age_ms for b in self._parts.buffer.backlog(now=now).values()]
        return max(ages, default=0) >= self._policy.queued_ms

    def sees_load(self) -> bool:
        """Whether a process of the fleet reports that it is loaded."""
        return self._parts.board.highest_load >= BUSY_LOAD

    def room(self, free: int) -> int:
        """How many opportunistic items may start now.

        Args:
            free: Slots that no other item needs.
        """
        if not self._parts.buffer.quiet:
            return 0
        return room(
            self._policy,
            self._state,
            slots=self._parts.slots,
            free=free,
            running=len(self._using),
        )

    def has_work(self, free: int) -> bool:
        """Whether anything could start, with so many free slots."""
        return free > 0 and (self._parts.buffer.ready > 0 or self.room(free) > 0)

    def take(self, free: int) -> list[Item]:
        """Take opportunistic items, as many as `room` allows."""
        number, buffer = self.room(free), self._parts.buffer
        if not number:
            return []
        backlog = buffer.quiet_backlog(now=self._parts.clock.monotonic())
        self._chosen, picks = choose(self._choice, self._chosen, backlog, number)
        taken = buffer.take_quiet(picks)
        self._using.update(taken)
        return taken

    def left(self, item: Item) -> None:
        """Note that an item of `take` ended, or was not run."""
        if item.is_opportunistic:
            self._using.discard(item)

    def due_ms(self, item: Item, now: EpochMs) -> EpochMs:
        """When an item may start, by its own due time and its hours; from now on.

        What comes to a lane that is closed stands still there and is not put off.
        """
        due, hours, job = item.due_ms(now), self._hours, item.job
        if self._is_plain:
            return due
        if item.delivery.topic in self._parts.buffer.closed:
            return due
        return hours.opening_ms(None if job is None else job.spec, item.lane, due)

    def is_crowded(self, item: Item) -> bool:
        """Whether an item would be in the way of others of its lane that may start."""
        topic = item.delivery.topic
        return (
            item.is_opportunistic
            and item.key_id is None
            and topic not in self.quiet_lanes
            and self._parts.buffer.quiet_on(topic) >= QUIET_MOST
        )

    @property
    def next_at(self) -> float | None:
        """When time alone may change something, monotonic; ``None`` never."""
        parts = self._parts
        now, now_ms = parts.clock.monotonic(), parts.clock.epoch_ms()
        instants = [
            parts.hours.opening_ms(None, parts.lanes[topic], now_ms)
            for topic in parts.buffer.closed
        ]
        if (end_ms := parts.hours.next_end_ms(now_ms)) is not None:
            instants.append(EpochMs(end_ms))
        if parts.buffer.quiet:
            instants += self._quiet_instants(now_ms, int(now * 1_000))
        found = [now + max(1, at - now_ms) / 1_000 for at in instants]
        return min(found, default=None)

    def _quiet_instants(self, now_ms: int, mono_ms: int) -> list[EpochMs]:
        """When time alone lets something start that waits for a quiet time."""
        parts, state, instants = self._parts, self._state, list[int]()
        if (deadline_ms := parts.buffer.next_deadline_ms) is not None:
            lead_ms = must_start_before(
                self._policy, now_ms=0, timeout_ms=self._timeout_ms
            )
            instants.append(deadline_ms - lead_ms + 1)
        if self.sign.is_set:
            instants.append(self.sign.until_ms)
        elif self.sees_load():
            pass
        elif state.share_milli == 0:
            instants.append(now_ms + max(1, state.idle_from_ms - mono_ms))
        elif state.share_milli < ALL_MILLI:
            instants.append(now_ms + self._policy.interval_ms)
        return [EpochMs(max(now_ms + 1, at)) for at in instants]

    async def run(self) -> None:
        """Look whenever something may have changed, until cancelled."""
        while True:
            self._news.clear()
            self.look()
            self._opened()
            await self._wait(self.next_at)

    async def _wait(self, at: float | None) -> None:
        """Wait until an instant, or until news; the wall clock may be set meanwhile."""
        clock, quiet = self._parts.clock, self._parts.buffer.quiet
        if at is None and not quiet and not self._parts.hours.rules:
            await self._news.wait()
            return
        left_s = _FAR_S if at is None else at - clock.monotonic()
        if quiet:
            # Load of other processes sets no event, so it is polled.
            left_s = min(left_s, _LOOK_S)
        await sleep_or_wake(clock, min(max(0.0, left_s), _FAR_S), self._news)

    def arrived(self) -> None:
        """Something came that may have to wait for a quiet time, or stand still."""
        if self._parts.buffer.quiet or self._parts.hours.rules:
            self._news.set()

    def _rush(self, now: EpochMs) -> None:
        """Bring forward what waits in the log for hours that people have changed.

        For a while also after the last setting is gone: what was put off because of it
        may start now.
        """
        mover, hours = self._parts.mover, self._parts.hours
        if mover is None:
            return
        if hours.by_hand is not self._heard or hours.next_end_ms(now) is not None:
            self._rush_until_ms = now + _RUSH_MS
        heard = hours.by_hand if now < self._rush_until_ms else None
        if heard is not self._rushed:
            mover.rush(None if heard is None else self._may_start)
        self._rushed, self._heard = heard, hours.by_hand

    def _may_start(self, job: str, lane: Lane) -> bool:
        spec, now = self._parts.specs.get(job), self._parts.clock.epoch_ms()
        return spec is not None and self._parts.hours.opening_ms(spec, lane, now) <= now

    def _observe(self) -> None:
        board, clock = self._parts.board, self._parts.clock
        refused = limits = 0
        for protection in board.protections.values():
            refused += sum(protection.refused.values())
            if protection.limit is not None:
                limits += int(protection.limit.state.limit)
        is_strained = refused > self._refused or limits < self._limits
        is_busy = self.is_busy() or self.sign.is_set or self.sees_load()
        before = self._state
        self._state = observe(
            self._policy,
            before,
            LoadSigns(is_busy, is_strained),
            now_ms=int(clock.monotonic() * 1_000),
        )
        if self._state is not before:
            self._refused, self._limits = refused, limits


def gate_of(
    parts: DrainParts,
    buffer: Buffer,
    board: FleetReplica,
    slots: int,
    *,
    opened: Callable[[], None],
) -> LaneGate:
    """The lane gate of a drain."""
    return LaneGate(
        LaneGateParts(
            parts.lanes,
            parts.feeds,
            parts.mover,
            buffer,
            Hours(parts.clock, {}) if parts.hours is None else parts.hours,
            board,
            parts.clock,
            slots,
            {name: job.spec for name, job in parts.jobs.items()},
        ),
        opened,
    )
