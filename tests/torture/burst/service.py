"""``python -m tests.torture.burst.service SECONDS``: the service under the burst.

Requests come when they come, however late the answers to others are: a fifth of what it
can do, then ten times what it can do for so many seconds, then a fifth again.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from shifter import Priority, Ran, Shed
from shifter.policy.admission.input import Decision
from shifter.produce.options import CallPlan
from tests.torture.burst.jobs import CAPACITY_PER_S, DEADLINES, app, history, work

WARM_S: Final = 4.0
AFTER_S: Final = 10.0
BURST: Final = 10.0
CALM: Final = 0.2
_SHARES: Final = {
    Priority.CRITICAL: 0.04,
    Priority.HIGH: 0.16,
    Priority.NORMAL: 0.3,
    Priority.LOW: 0.5,
}
_DELAYED: Final = 0.05
_DELAY_MS: Final = 1_500


class Request(NamedTuple):
    """One that will come, so many seconds after the first."""

    at_s: float
    priority: Priority
    delay_ms: int


def requests(seconds: float) -> Iterator[Request]:
    """All of them, by time; the same each time."""
    draw, at_s = random.Random(47), 0.0
    end_s = WARM_S + seconds + AFTER_S
    while at_s < end_s:
        is_burst = WARM_S <= at_s < WARM_S + seconds
        [priority] = draw.choices(list(_SHARES), list(_SHARES.values()))
        is_delayed = draw.random() < _DELAYED
        yield Request(at_s, priority, _DELAY_MS if is_delayed else 0)
        at_s += draw.expovariate(CAPACITY_PER_S * (BURST if is_burst else CALM))


async def ask(number: int, request: Request) -> None:
    """Submit one, and write down question and answer."""
    _, priority, delay_ms = request
    deadline_s = DEADLINES[priority] + delay_ms / 1_000
    call = work.options(
        priority=priority,
        deadline=deadline_s,
        delay=f"{delay_ms}ms" if delay_ms else None,
    )
    now_ms = time.time_ns() // 1_000_000
    facts = {"job": str(number), "kind": priority.value}
    history().note(
        "accept",
        "invoke",
        **facts,
        due_ms=now_ms + delay_ms if delay_ms else 0,
        deadline_ms=now_ms + int(deadline_s * 1_000),
    )
    answer = await call.submit(number)
    history().note(
        "accept",
        "fail" if isinstance(answer, Shed) else "ok",
        **facts,
        identity="" if isinstance(answer, Ran | Shed) else answer.job_id,
        reason=f"{type(answer).__name__.lower()}: {answer.reason.value}",
    )


def heard(window: int, plan: CallPlan, decision: Decision) -> None:
    """Write a decision down, and how many slots are left after it."""
    admission = app.admission
    history().note(
        "decide",
        kind=decision.verdict.value,
        reason=decision.reason.value,
        facts={
            "window": window,
            "rank": plan.priority.rank,
            "free": admission.limit - admission.inflight,
            "delay_ms": plan.delay_ms or 0,
        },
    )


async def main(seconds: float) -> None:
    """Let them come."""
    async with app, asyncio.TaskGroup() as group:
        app.admission.on_decision = heard
        began, phase = time.monotonic(), ""
        for number, request in enumerate(requests(seconds)):
            left_s = began + request.at_s - time.monotonic()
            if left_s > 0:
                await asyncio.sleep(left_s)
            elif number % 50 == 0:
                await asyncio.sleep(0)
            now = _phase(request.at_s, seconds)
            if now != phase:
                phase = now
                history().note("phase", kind=phase)
            group.create_task(ask(number, request))


def _phase(at_s: float, seconds: float) -> str:
    if at_s < WARM_S:
        return "before"
    return "burst" if at_s < WARM_S + seconds else "after"


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
