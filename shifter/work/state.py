"""What the stages of a drain share: where items wait, what lets them start, claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shifter.ports import Clock
from shifter.work.buffer import Buffer
from shifter.work.claiming import Claiming
from shifter.work.delay_queue import DelayQueue
from shifter.work.dependency_gate import DependencyGate
from shifter.work.job_observer import JobObserver
from shifter.work.lane_gate import LaneGate
from shifter.work.next_step import Moment, NextSteps
from shifter.work.waiting_limits import WaitingLimits


class DrainState(NamedTuple):
    """What the stages of a drain share. Owned by its event loop.

    Attributes:
        clock: Reads and waits.
        moment: The instant and a random draw, for what is decided now.
        limits: How much may wait in this process.
        buffer: Items that may start, a queue for each lane.
        delayed: Items that wait for a time.
        lane_gate: Which lanes may start items now.
        dependency_gate: Which dependencies take calls now.
        claiming: The claims of this worker.
        next_steps: Decides what follows an attempt.
        observer: Counts and logs what happens to jobs.
    """

    clock: Clock
    moment: Callable[[], Moment]
    limits: WaitingLimits
    buffer: Buffer
    delayed: DelayQueue
    lane_gate: LaneGate
    dependency_gate: DependencyGate
    claiming: Claiming
    next_steps: NextSteps
    observer: JobObserver
