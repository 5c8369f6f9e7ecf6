"""Whether a worker process is alive, and whether it is ready.

A process is alive if it makes progress: its event loop runs, its lanes are polled,
ended jobs are settled, and attempts end at their limit. A process
without progress holds partitions and claims that others could serve.

The state of Kafka and Redis does not count: a restart of a worker does not bring them
back, and a fleet that restarts during their outage makes their return harder.

Source: Google, Site Reliability Engineering, ch. 22, on health checks that spread an
outage; the Kubernetes documentation on liveness probes agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from shifter.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """Bounds beyond which a process counts as ill.

    Attributes:
        silent_s: Longest silence of an event loop, seconds, > 0.
        stalled_s: Longest time without a poll, or without settling anything of what
            ended, seconds, > 0; longer than one try to hand a record over (35 s).
        overdue_s: Longest time an attempt may go on after it was stopped, seconds, > 0;
            longer than a process takes to drain and end because of it.

    Raises:
        ConfigError: A bound is not above 0.
    """

    silent_s: float = 10.0
    stalled_s: float = 60.0
    overdue_s: float = 90.0

    def __post_init__(self) -> None:
        for field in ("silent_s", "stalled_s", "overdue_s"):
            if not getattr(self, field) > 0:
                raise ConfigError(field, getattr(self, field), "must be above 0")


class WorkProgress(NamedTuple):
    """The last report of a process.

    Attributes:
        is_ready: Whether it joined and may claim.
        unpolled_s: Seconds since the lane that was polled longest ago was; >= 0.
        unsettled_s: Seconds since when something has ended and nothing was settled;
            0 while nothing waits for it.
        running: Attempts that run.
        overdue_s: Seconds since the attempt was stopped that has been going on for the
            longest time after that; 0 without one.
    """

    is_ready: bool
    unpolled_s: float
    unsettled_s: float
    running: int
    overdue_s: float = 0.0


def ailment(
    policy: HealthPolicy, progress: WorkProgress | None, *, silent_s: float
) -> str | None:
    """What is wrong with a process; ``None`` when it is alive.

    Args:
        policy: Bounds.
        progress: Its last report; ``None`` before the first.
        silent_s: Seconds since that report, or since the start of the process.

    A process whose slots are all busy does not poll: attempts that run count as life,
    since each of them has a limit of its own.

    Pure.
    """
    if progress is None:
        # It still starts: importing an app and joining a group have their own time.
        return None if silent_s <= policy.stalled_s else "has not begun"
    if silent_s > policy.silent_s:
        return f"silent for {silent_s:.0f} s"
    if progress.unsettled_s > policy.stalled_s:
        return f"nothing settled for {progress.unsettled_s:.0f} s"
    if progress.overdue_s > policy.overdue_s:
        return f"an attempt goes on {progress.overdue_s:.0f} s after it was stopped"
    if (
        progress.is_ready
        and not progress.running
        and progress.unpolled_s > policy.stalled_s
    ):
        return f"nothing polled for {progress.unpolled_s:.0f} s"
    return None
