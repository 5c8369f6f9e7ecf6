"""What a decision costs: alone, with the process's facts, and around a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from benchmarks.report import Finding
from shifter import Priority, Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Settings
from shifter.policy.admission import AdmissionPolicy, decide
from shifter.policy.case import Asked, Case, Here, Needs
from shifter.policy.lane_outlook import LaneFacts
from shifter.testing import TestApp


def measure(scale: float) -> list[Finding]:
    """All findings; no server is needed."""
    count = int(100_000 * scale) + 1_000
    alone = _alone(count)
    facts, bare, behind = asyncio.run(_in_a_process(count))
    added = behind[0] - bare[0]
    return [
        *_pair("decision alone", alone, 5, 25),
        *_pair("decision with its facts", facts, 5, 25),
        Finding("middleware adds, p50", added, "us", None, None, 100, at_most=True),
    ]


def _pair(name: str, found: tuple[float, float], *most: float) -> list[Finding]:
    return [
        Finding(f"{name}, {quantile}", value, "us", None, None, bound, at_most=True)
        for quantile, value, bound in zip(("p50", "p99"), found, most, strict=True)
    ]


def _quantiles(spent_ns: list[int]) -> tuple[float, float]:
    spent_ns.sort()
    middle, late = spent_ns[len(spent_ns) // 2], spent_ns[len(spent_ns) * 99 // 100]
    return middle / 1_000, late / 1_000


def _time(call: Callable[[], object], count: int) -> tuple[float, float]:
    spent = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        spent.append(time.perf_counter_ns() - began)
    return _quantiles(spent)


def _alone(count: int) -> tuple[float, float]:
    """The costliest way: every rule passes but the last, then the lane is asked."""
    policy, lane = AdmissionPolicy(), LaneFacts(40, 10.0)
    asked = Asked(Priority.HIGH.rank, 250, left_s=30.0)
    case = Case(asked, Here(free=0), Needs(), lane, 0.5)
    return _time(lambda: decide(policy, case), count)


async def _in_a_process(
    count: int,
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    app = Shifter("bench", settings=Settings(namespace="bench"))

    @app.job
    async def work() -> None: ...

    async def service(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async with TestApp(app):
        admission = app.admission

        def decided() -> None:
            with admission.held(admission.decide(work.plan, can_run=True)):
                pass

        # In slices: a loop that is held up lags, and that is another decision.
        spent: list[int] = []
        for _ in range(count // 200):
            for _ in range(200):
                began = time.perf_counter_ns()
                decided()
                spent.append(time.perf_counter_ns() - began)
            await asyncio.sleep(0)
        facts = _quantiles(spent)
        bare = await _requests(service, count // 10)
        behind = await _requests(AdmissionMiddleware(service, app), count // 10)
    return facts, bare, behind


async def _requests(service, count: int) -> tuple[float, float]:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/page",
        "headers": [(b"host", b"web"), (b"priority", b"u=3")],
    }

    async def send(event) -> None: ...

    spent = []
    for _ in range(count):
        began = time.perf_counter_ns()
        await service(scope, None, send)
        spent.append(time.perf_counter_ns() - began)
    return _quantiles(spent)
