"""When work may start: execution windows, their overrides, and the fleet's busy flag.

An override applies to a queue, to one of its lanes, or to a type of job. The fleet
shares overrides as it shares a circuit that an operator opened. Until a process has
learnt of an override, it uses the windows that its program declares.

The busy flag is a cell with an end, set by one busy process and renewed while its load
lasts. While it is set, no process starts opportunistic work. The flag of a process that
died ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from shifter.errors import ConfigError
from shifter.fleet.shared_state import read_setting
from shifter.model.fleet import MAX_INSTANT_MS, Proposal, read_whole
from shifter.model.job import JobSpec, LaneRule
from shifter.model.lane import Lane, Priority, check_name
from shifter.model.time import EpochMs
from shifter.policy.schedule.hours import HoursOverride, Windows, opening_ms
from shifter.ports import Clock

_CELL: Final = "hand/window/"
_ALWAYS: Final = LaneRule()

MOST_CHARS: Final = 200
"""Longest name of a job in a scope: a cell's name stays below the stores' bounds."""


def queue_scope(queue: str, priority: Priority | None = None) -> str:
    """The scope of an override of a queue, or of one of its lanes."""
    if priority is None:
        return f"queue/{queue}"
    return f"lane/{queue}/{priority.value.lower()}"


def job_scope(name: str) -> str:
    """The scope of an override of a type of job."""
    return f"job/{name}"


def hours_scope(queue: str | None, priority: Priority | None, job: str | None) -> str:
    """Check and return the scope of an override.

    Args:
        queue: The queue; ``None`` for a type of job.
        priority: The lane of the queue; ``None`` for all of them.
        job: The type of job; ``None`` for a queue.

    Raises:
        ConfigError: Neither a queue nor a type of job, or both; a name is wrong.
    """
    if job is not None and queue is None and priority is None:
        if not job or not job.isprintable() or len(job) > MOST_CHARS:
            raise ConfigError("job", job, f"use 1-{MOST_CHARS} printable characters")
        return job_scope(job)
    if queue is None or job is not None:
        want = "name a queue, and maybe a priority, or else a type of job"
        raise ConfigError("window", job if queue is None else queue, want)
    return queue_scope(check_name("queue", queue), priority)


def window_cell(scope: str) -> str:
    """The name of the cell that holds the override of a scope."""
    return _CELL + scope


def scope_of(cell: str) -> str | None:
    """The scope of an override's cell; ``None`` for other cells."""
    return cell.removeprefix(_CELL) if cell.startswith(_CELL) else None


BUSY_CELL: Final = "load"
BUSY_MS: Final = 1_500
"""How long the busy flag holds; it is renewed when half of the time is over.

Half of it, 750 ms, is more than three syncs: a failed one does not end the flag.
"""


class Hours:
    """The execution windows in force. Safe to share between threads.

    Args:
        clock: Wall time.
        rules: The rules of lanes, by name; they may grow while an app is declared.

    Attributes:
        by_hand: The overrides, by scope; some may have ended.
        changed: Called when an override changed, in the thread that learns of it.
    """

    def __init__(self, clock: Clock, rules: Mapping[str, LaneRule]) -> None:
        self._clock, self.rules = clock, rules
        self.by_hand: Mapping[str, HoursOverride] = {}
        self.changed: Callable[[], None] = lambda: None

    def propose(self) -> Iterable[Proposal]:
        """Propose nothing: operators set overrides."""
        return ()

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read the overrides.

        Args:
            cells: All cells of the fleet.
            now_ms: The time, by the store's clock.
        """
        ahead_ms = self._clock.epoch_ms() - now_ms
        found: dict[str, HoursOverride] = {}
        for cell, text in cells.items():
            scope = scope_of(cell)
            setting = None if scope is None else read_setting(text)
            if scope is None or setting is None or setting.to not in ("open", "closed"):
                continue
            if setting.until_ms > now_ms:
                found[scope] = HoursOverride(
                    setting.to == "open", setting.until_ms + ahead_ms
                )
        self.set_by_hand(found)

    def set_by_hand(self, found: dict[str, HoursOverride]) -> None:
        """Replace the overrides, by scope."""
        if found.keys() | self.by_hand.keys():
            # One assignment: another thread reads the old or the new overrides.
            self.by_hand = found
            self.changed()

    @property
    def is_limiting(self) -> bool:
        """Whether a lane has windows, or an override exists."""
        return bool(self.by_hand or self.rules)

    def opening_ms(self, spec: JobSpec | None, lane: Lane, at: EpochMs) -> EpochMs:
        """The first instant at which a job may start on a lane.

        Args:
            spec: The job, with windows of its own; ``None`` for any job of the lane.
            lane: The lane.
            at: The earliest instant.
        """
        own = () if spec is None else spec.windows
        if not own and not self.by_hand and not self.rules:
            return at
        return opening_ms(self._windows(own, lane), self._settings(spec, lane), at)

    def is_lane_closed(self, lane: Lane, now: EpochMs) -> bool:
        """Whether nothing of a lane may start, whatever job it is."""
        if not self.by_hand and not self.rules:
            return False
        settings = self._settings(None, lane)
        if opening_ms(self._windows((), lane), settings, now) <= now:
            return False
        is_shut = any(not s.is_open and s.until_ms > now for s in settings)
        # A type of job may have been opened by itself.
        return is_shut or not self._is_a_job_open(now)

    def next_end_ms(self, now: EpochMs) -> int | None:
        """When the next override ends; ``None`` without one."""
        ends = (s.until_ms for s in self.by_hand.values() if s.until_ms > now)
        return min(ends, default=None)

    def _windows(self, own: Windows, lane: Lane) -> list[Windows]:
        rule = self.rules.get(lane.name, _ALWAYS)
        return [windows for windows in (own, rule.windows) if windows]

    def settings_of(self, spec: JobSpec | None, lane: Lane) -> dict[str, HoursOverride]:
        """The overrides of a job on a lane; without a job, of all of the lane."""
        by_hand = self.by_hand
        names = [queue_scope(lane.queue), queue_scope(lane.queue, lane.priority)]
        if spec is not None:
            names.append(job_scope(spec.name))
        return {name: by_hand[name] for name in names if name in by_hand}

    def _settings(self, spec: JobSpec | None, lane: Lane) -> Sequence[HoursOverride]:
        return list(self.settings_of(spec, lane).values()) if self.by_hand else ()

    def _is_a_job_open(self, now: EpochMs) -> bool:
        return any(
            scope.startswith("job/") and setting.is_open and setting.until_ms > now
            for scope, setting in self.by_hand.items()
        )


class BusyFlag:
    """One process's view of the flag. Belongs to the thread that syncs.

    Args:
        clock: Wall time.
        is_busy: Whether this process has load; ``None`` if it never sets the flag.

    Attributes:
        until_ms: When the flag ends, by this process's wall clock; 0 if it is not set.
    """

    def __init__(self, clock: Clock, is_busy: Callable[[], bool] | None = None) -> None:
        self._clock, self.is_busy = clock, is_busy
        self._text, self.until_ms = b"", 0
        self._ahead_ms: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether some process has load, as of the last sync."""
        return self._clock.epoch_ms() < self.until_ms

    def propose(self) -> Iterable[Proposal]:
        """Set or renew the flag, if this process is busy."""
        now, ahead_ms = self._clock.epoch_ms(), self._ahead_ms
        if ahead_ms is None or self.until_ms - now > BUSY_MS // 2:
            return
        if self.is_busy is not None and self.is_busy():
            yield Proposal(BUSY_CELL, self._text, b"%d" % (now - ahead_ms + BUSY_MS))

    def learn(self, cells: Mapping[str, bytes], now_ms: int) -> None:
        """Read the flag; ``now_ms`` is the store's clock."""
        self._ahead_ms = self._clock.epoch_ms() - now_ms
        self._text = cells.get(BUSY_CELL, b"")
        # A forged or broken end delays opportunistic work no longer than a flag does.
        found = read_whole(self._text.decode("latin-1"), MAX_INSTANT_MS)
        until_ms = 0 if found is None else min(found, now_ms + BUSY_MS)
        self.until_ms = until_ms + self._ahead_ms
