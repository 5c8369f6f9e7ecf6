"""shifter's own numbers: `shifter.ops.scaling.Planner` on readings of the fleet.

The planner is what ``shifter scaler`` serves. It is told what workers report in
production: jobs that end, the part of each worker that a lane uses, the lanes' depth
and tightest deadline, and the circuit. KEDA asks for its number as an external metric
with a target of 1, and Kubernetes' autoscaler applies it.
"""

from __future__ import annotations

from typing import Final

from examples.scaling.fleet import EVERY_S, Class, Reading
from examples.scaling.rivals import Stabilised, average_value
from shifter import Priority, Shifter
from shifter.config import Settings
from shifter.fleet.view import CircuitRow
from shifter.model.time import EpochMs, Monotonic
from shifter.ops.scaling import Planner
from shifter.ops.status import LaneRow, Overview
from shifter.ports import WorkerReport

_NAME: Final = "week"
_EPOCH_MS: Final = 1_700_438_400_000  # Monday, 2023-11-20, 00:00 UTC
_LANES: Final = (("chat", Priority.HIGH), ("code", Priority.LOW))


class _Clock:
    """`shifter.ports.Clock` of the simulated fleet."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def epoch_ms(self) -> EpochMs:
        return EpochMs(_EPOCH_MS + round(self.now_s * 1_000))

    def monotonic(self) -> Monotonic:
        return Monotonic(self.now_s)

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError(f"nobody waits {seconds} s here")


def _app(floor: int, ceiling: int, start_up_s: float) -> Shifter:
    settings = Settings(
        namespace=_NAME,
        scale_floor=floor,
        scale_ceiling=ceiling,
        scale_start_up_ms=round(start_up_s * 1_000),
    )
    app = Shifter(_NAME, settings=settings)
    completions = app.dependency("completions")

    @app.job(queue="chat", priority=Priority.HIGH)
    async def converse() -> None: ...

    @app.job(queue="code", priority=Priority.LOW, uses=completions)
    async def complete() -> None: ...

    return app


class Planned:
    """shifter behind KEDA.

    Args:
        slots: Of a worker.
        start_up_s: What a worker takes to its first job, seconds.
        floor: ``scale_floor``.
        ceiling: ``scale_ceiling``.

    Attributes:
        planner: Makes the numbers.
    """

    def __init__(self, slots: int, start_up_s: float, floor: int, ceiling: int) -> None:
        self._slots, self._clock = slots, _Clock()
        app = _app(floor, ceiling, start_up_s)
        self.planner = Planner(app, self._clock, remembers=True)
        self._stabilised = Stabilised()

    def __call__(self, reading: Reading) -> int:
        """The number of workers."""
        self._clock.now_s = reading.now_s
        [group] = self.planner.plan(self._overview(reading)).groups
        current = reading.workers
        wanted = average_value(current, group.desired, 1.0)
        return self._stabilised(reading.now_s, current, wanted)

    def _overview(self, reading: Reading) -> Overview:
        classes = dict(zip(_LANES, (reading.high, reading.low), strict=True))
        rows = [_row(*lane, found) for lane, found in classes.items()]
        busy = {
            f"{_NAME}.{queue}.{priority.value.lower()}": found.busy_s
            / (EVERY_S * self._slots * max(1, reading.ready))
            for (queue, priority), found in classes.items()
        }
        report = WorkerReport(
            *("worker", "host", 1, 0, 0, self._slots, {}, {}),
            queues=[queue for queue, _ in _LANES],
            priorities=[priority.value for _, priority in _LANES],
            busy=busy,
            start_up_ms=0,
        )
        return Overview(
            as_of_ms=self._clock.epoch_ms(),
            lanes=rows,
            dead_letters=[],
            circuits=[_circuit("open" if reading.is_down else "closed")],
            budgets=[],
            workers=[report] * reading.ready,
        )


def _row(queue: str, priority: Priority, found: Class) -> LaneRow:
    return LaneRow(
        queue=queue,
        priority=priority.value,
        waiting=found.waiting + found.running,
        delayed=0,
        running=found.running,
        oldest_age_s=None,
        rate_per_s=found.ended / EVERY_S,
        eta_s=None,
        due=found.waiting + found.running,
        tightest_deadline_s=found.left_s,
    )


def _circuit(state: str) -> CircuitRow:
    return CircuitRow(
        dependency="completions",
        state=state,
        reopens_s=None,
        probes=0,
        by_hand=None,
        processes=1,
        age_s=0.1,
        calls=0,
        failures=0,
        inflight=0,
        limit=None,
        held_back={},
        would_hold_back={},
    )
