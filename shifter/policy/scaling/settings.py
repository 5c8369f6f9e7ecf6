"""Settings of a worker group's size, and the reasons that a size can have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shifter.errors import ConfigError
from shifter.policy.bounds import check_at_least, check_ratio

MAX_WORKERS = 100_000
"""Largest floor and ceiling: more processes than any fleet has."""


class ScalingReason(StrEnum):
    """What decided how many workers are desired.

    Attributes:
        IDLE: Nothing is due.
        DUE_BACKLOG: The work that is due, and the work that keeps coming.
        DEADLINE: The same, and its tightest deadline comes before the target.
        WINDOW_OPENS: An execution window opens, or a cron job fires, before a new
            worker would have started.
        DEPENDENCY_LIMITED: More work is due, but its dependency bears no more.
        PARTITIONS: More workers would find no partition to read, or no job to run.
        FLOOR: The floor; or one worker, since something is due.
        CEILING: The ceiling.
        HELD: Fewer would do now, but more were needed within the stabilisation window,
            or the number is the last one, or the fallback, while a store is away.
    """

    IDLE = "idle"
    DUE_BACKLOG = "due_backlog"
    DEADLINE = "deadline"
    WINDOW_OPENS = "window_opens"
    DEPENDENCY_LIMITED = "dependency_limited"
    PARTITIONS = "partitions"
    FLOOR = "floor"
    CEILING = "ceiling"
    HELD = "held"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """Settings of one worker group.

    Attributes:
        floor: Workers at least, 0 to `MAX_WORKERS`.
        ceiling: Workers at most, 1 to `MAX_WORKERS`, not below the floor.
        target_ms: Time in which the work that is due now shall be done, >= 1000.
        stabilisation_ms: How long a number is kept after more were needed, >= 0. The
            default is that of Kubernetes' horizontal pod autoscaler.
        start_up_ms: What a platform takes from asking for a worker to its process,
            >= 0. What the process itself takes is measured.
        utilisation: Part of a worker that is planned to be in use, in (0, 1]: at 0.8
            jobs wait on average for 4 times their service (M/M/1). LOW lanes are
            planned to use all of it.
        tolerance: Part of the number by which it may fall without a change, in [0, 1).

    Raises:
        ConfigError: A value is out of its range, or the ceiling is below the floor.
    """

    floor: int = 0
    ceiling: int = 100
    target_ms: int = 30_000
    stabilisation_ms: int = 300_000
    start_up_ms: int = 10_000
    utilisation: float = 0.8
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        check_at_least("floor", self.floor, 0)
        check_at_least("ceiling", self.ceiling, 1)
        check_at_least("target_ms", self.target_ms, 1_000)
        check_at_least("stabilisation_ms", self.stabilisation_ms, 0)
        check_at_least("start_up_ms", self.start_up_ms, 0)
        check_ratio("utilisation", self.utilisation)
        if not 0 <= self.tolerance < 1:
            raise ConfigError(
                "tolerance", self.tolerance, "use a number from 0 below 1"
            )
        if self.ceiling > MAX_WORKERS:
            raise ConfigError("ceiling", self.ceiling, f"allowed: 1 to {MAX_WORKERS}")
        if self.floor > self.ceiling:
            want = f"must not be above the ceiling ({self.ceiling})"
            raise ConfigError("floor", self.floor, want)
