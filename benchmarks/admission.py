"""What a decision costs: alone, with the process's facts, and around a request."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Finding
from shifter import Priority, Shifter
from shifter.asgi import AdmissionMiddleware
from shifter.config import Secret, Settings
from shifter.policy.admission.decision import decide
from shifter.policy.admission.input import AdmissionInput
from shifter.policy.admission.lane_outlook import LaneFacts, OutlookPolicy
from shifter.policy.protection.limit import LimitPolicy


def measure(scale: float) -> list[Finding]:
    """All findings; no server is needed."""
    count = int(100_000 * scale) + 1_000
    alone = _alone(count)
    with tempfile.TemporaryDirectory() as folder:
        facts, uses, added_us = asyncio.run(_in_a_process(count, Path(folder)))
    return [
        *_pair("decision alone", alone, 5, 25),
        *_pair("decision with its facts", facts, 5, 25),
        *_pair("decision with a dependency's", uses, 5, 25),
        Finding("middleware adds, p50", added_us, "us", None, None, 100, at_most=True),
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
    policy, lane = OutlookPolicy(), LaneFacts(40, 10.0)
    case = AdmissionInput(
        Priority.HIGH.rank, 250, left_s=30.0, free=0, lane=lane, u=0.5
    )
    return _time(lambda: decide(policy, case), count)


async def _in_a_process(
    count: int, folder: Path
) -> tuple[tuple[float, float], tuple[float, float], float]:
    """In a service as it is: its lanes and its fleet are looked at meanwhile."""
    url = Secret(f"sqlite:///{folder}/bench.db")
    app = Shifter(
        "bench", settings=Settings(namespace="bench", log_url=url, state_url=url)
    )
    mailer = app.dependency("mailer", limit=LimitPolicy())

    @app.job(deadline="30s")
    async def work() -> None: ...

    @app.job(deadline="30s", uses=mailer)
    async def mail() -> None: ...

    async def service(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async with app:
        for job in (work, mail):
            await job.defer()
        async with asyncio.timeout(60):  # until both views have been filled
            while app.admission.views.lanes.facts(work.plan.lane) is None:
                await asyncio.sleep(0.5)
        facts = await _decisions(app.admission, work.plan, count)
        uses = await _decisions(app.admission, mail.plan, count)
        bare = await _requests(service, count // 10)
        behind = await _requests(AdmissionMiddleware(service, app), count // 10)
    return facts, uses, behind[0] - bare[0]


async def _decisions(admission, plan, count: int) -> tuple[float, float]:
    """A decision and the slot given back."""
    spent: list[int] = []
    # In slices: a loop that is held up lags, and that is another decision.
    for _ in range(count // 200):
        for _ in range(200):
            began = time.perf_counter_ns()
            admission.let_go(admission.decide(plan, can_run=True))
            spent.append(time.perf_counter_ns() - began)
        await asyncio.sleep(0)
    return _quantiles(spent)


async def _requests(service, count: int) -> tuple[float, float]:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/page",
        "headers": [(b"host", b"web"), (b"priority", b"u=3")],
    }

    refused = 0

    async def send(event) -> None:
        nonlocal refused
        refused += event.get("status", 200) != 200

    spent: list[int] = []
    # In slices, and without what is refused: a loop that is held up refuses some.
    for _ in range(count // 20):
        for _ in range(20):
            before, began = refused, time.perf_counter_ns()
            await service(scope, None, send)
            passed = time.perf_counter_ns() - began
            if refused == before:
                spent.append(passed)
        await asyncio.sleep(0)
    return _quantiles(spent)
