"""The app that runs under torture. Each effect is told to the witness.

Workers load this module by name; with ``SHIFTER_BUG`` set it breaks the product in that
one way, so that a checker can be checked. ``TORTURE_DIE`` is a failpoint: ``effect``
kills the worker now and then between an effect and its mark, ``letter`` between the
acknowledgement of a dead letter and its mark.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from shifter import Context, DeadLetter, Priority, Shifter, Throttled
from shifter.jobs.request_scope import ambient
from shifter.model.claim import JobState
from shifter.policy.protection.budget import BudgetPolicy
from shifter.protection import EvidencePolicy
from shifter.work.completer import Completer
from shifter.work.next_step import NextStep
from tests.torture.harness.event import History
from tests.torture.harness.witness import Line, Told, tell_at_once

FOLDER: Final = "TORTURE_FOLDER"
SOCKET: Final = "TORTURE_SOCKET"
NAMESPACE: Final = "TORTURE_NAMESPACE"
DIE: Final = "TORTURE_DIE"
BUG: Final = "SHIFTER_BUG"

HEALED: Final = "healed"
"""The file beside the histories that ends all failpoints."""
FLAKY_FAILS: Final = 2
EXHAUSTED_ATTEMPTS: Final = 3
KEYED_FAILS_EACH: Final = 7
OVERTIME_EACH: Final = 3
OVERTIME_S: Final = 2.5
BACKOFF_MS: Final = 200
CROWD_S: Final = 2.0
BRIEF_S: Final = 0.6
"""Long enough that what a claim costs on a busy machine is small beside it."""
PAID_FAILS_RATIO: Final = 0.5
"""More than the budget bears, so that the rest is refused."""
BUDGET: Final = BudgetPolicy(ratio=0.2, floor_per_s=1)
_DIES_RATIO = {"effect": 0.01, "letter": 0.1}
_KEEP = "2h"

app = Shifter(os.environ.get(NAMESPACE, "torture"))
bank = app.dependency(
    "bank",
    budget=BUDGET,
    evidence=EvidencePolicy(consecutive_failures=10**6, min_calls=10**6),
)
"""Its circuit never opens: only the budget holds a call back."""


def digest_of(body: str | bytes) -> str:
    """What a payload is told by."""
    raw = body.encode() if isinstance(body, str) else body
    return hashlib.sha256(raw).hexdigest()[:16]


@cache
def history() -> History:
    """This process's own."""
    name = f"worker-{os.getpid()}-{time.monotonic_ns()}"
    return History(Path(os.environ[FOLDER]), name)


@cache
def line() -> Line:
    """This process's connection to the witness."""
    return Line(Path(os.environ[SOCKET]))


def dies(where: str) -> None:
    """A failpoint: SIGKILL to oneself, now and then, until it is healed."""
    if os.environ.get(DIE) != where or random.random() >= _DIES_RATIO[where]:
        return
    if not Path(os.environ[FOLDER], HEALED).exists():
        history().note("fault", kind=f"died after {where}", pids=[os.getpid()])
        os.kill(os.getpid(), signal.SIGKILL)


class Run:
    """One run of a handler, as the witness and the history see it."""

    def __init__(self, ctx: Context, body: str, key: str = "", kseq: int = 0) -> None:
        self._ctx, self._key, self._kseq = ctx, key, kseq
        self._digest = digest_of(body)
        self._identity = f"{ctx.job_type}:{ctx.idempotency_key}"

    async def begin(self) -> None:
        """Before anything else."""
        # The deadline may cut the question short before the witness has heard it.
        history().note("begin", job=self._ctx.job_id, attempt=self._ctx.attempt)
        await self._tell("start")

    async def effect(self) -> None:
        """What the job is for; its last act."""
        answer = await self._tell("effect")
        dies("effect")
        self.end("ok" if answer != "stale" else "fail", answer)

    def end(self, outcome: str, reason: str) -> None:
        """The handler is about to return, or to raise."""
        ctx = self._ctx
        history().note(
            "finish",
            outcome,
            job=ctx.job_id,
            kind=ctx.job_type,
            identity=self._identity,
            key=self._key,
            kseq=self._kseq,
            attempt=ctx.attempt,
            fence=ctx.fence,
            reason=reason,
        )

    def fails(self, error: Exception) -> Exception:
        """What to raise."""
        self.end("fail", type(error).__name__)
        return error

    def begin_in_thread(self) -> None:
        """The same in a thread, which nothing interrupts in the middle of a call."""
        history().note("begin", job=self._ctx.job_id, attempt=self._ctx.attempt)
        tell_at_once(Path(os.environ[SOCKET]), self._told("start"))

    def effect_in_thread(self) -> None:
        """The last act of a handler in a thread."""
        answer = tell_at_once(Path(os.environ[SOCKET]), self._told("effect"))
        self.end("ok" if answer != "stale" else "fail", answer)

    async def _tell(self, f: str) -> str:
        return await line().tell(self._told(f))

    def _told(self, f: str) -> Told:
        ctx = self._ctx
        return Told(
            f,
            ctx.job_id,
            ctx.job_type,
            self._identity,
            self._key,
            self._kseq,
            ctx.attempt,
            ctx.fence,
            self._digest,
            os.getpid(),
        )


def _job(**options: Any) -> Callable[[Any], Any]:
    merged = {"queue": "work", "keep_status": _KEEP, "claims": "park", **options}
    return app.job(**merged)


@_job(claims="proceed")
async def plain(body: str, ctx: Context) -> None:
    """One effect; goes on while nobody can say who may run it."""
    run = Run(ctx, body)
    await run.begin()
    await run.effect()


@_job()
async def once(body: str, ctx: Context) -> None:
    """One effect; waits until somebody can say."""
    run = Run(ctx, body)
    await run.begin()
    await run.effect()


@_job(priority=Priority.HIGH)
async def shifted(body: str, ctx: Context) -> None:
    """Submitted with a due time."""
    run = Run(ctx, body)
    await run.begin()
    await run.effect()


@_job()
async def timely(body: str, ctx: Context) -> None:
    """Submitted with a deadline."""
    run = Run(ctx, body)
    await run.begin()
    await run.effect()


@_job(queue="keyed", attempts=5, backoff=f"{BACKOFF_MS}ms")
async def keyed(key: str, kseq: int, body: str, ctx: Context) -> None:
    """In its key's order; each seventh fails once."""
    run = Run(ctx, body, key, kseq)
    await run.begin()
    if kseq % KEYED_FAILS_EACH == 0 and ctx.attempt == 1:
        raise run.fails(OSError("once more"))
    await run.effect()


@_job(queue="keyed", attempts=5, backoff=f"{BACKOFF_MS}ms", timeout="1s")
def overtime(key: str, kseq: int, body: str, ctx: Context) -> None:
    """In its key's order, in a thread; each third outlives its timeout once."""
    run = Run(ctx, body, key, kseq)
    run.begin_in_thread()
    try:
        if kseq % OVERTIME_EACH == 0 and ctx.attempt == 1:
            time.sleep(OVERTIME_S)
        run.effect_in_thread()
    except asyncio.CancelledError:
        run.end("fail", "stopped")
        raise


@_job(attempts=FLAKY_FAILS + 2, backoff=f"{BACKOFF_MS}ms")
async def flaky(body: str, ctx: Context) -> None:
    """Fails twice."""
    run = Run(ctx, body)
    await run.begin()
    if ctx.attempt <= FLAKY_FAILS:
        raise run.fails(OSError("not yet"))
    await run.effect()


@_job()
async def hopeless(body: str, ctx: Context) -> None:
    """Ends as a dead letter at once."""
    run = Run(ctx, body)
    await run.begin()
    raise run.fails(DeadLetter("hopeless"))


@_job(attempts=EXHAUSTED_ATTEMPTS, backoff=f"{BACKOFF_MS}ms")
async def exhausted(body: str, ctx: Context) -> None:
    """Ends as a dead letter after its attempts."""
    run = Run(ctx, body)
    await run.begin()
    raise run.fails(OSError("never"))


@_job(priority=Priority.LOW, timeout="5m")
async def slow(seconds: float, body: str, ctx: Context) -> None:
    """Takes its time before its effect."""
    run = Run(ctx, body)
    await run.begin()
    await asyncio.sleep(seconds)
    await run.effect()


@_job(queue="crowd")
async def crowd(body: str, ctx: Context) -> None:
    """One of thousands that wait; two seconds long, until all is healed."""
    run = Run(ctx, body)
    await run.begin()
    await _hold_slot(CROWD_S)
    await run.effect()


@_job(queue="brief")
async def brief(body: str, ctx: Context) -> None:
    """One of thousands of another queue; shorter."""
    run = Run(ctx, body)
    await run.begin()
    await _hold_slot(BRIEF_S)
    await run.effect()


@_job(queue="aside")
async def aside(body: str, ctx: Context) -> None:
    """The only one of its queue."""
    run = Run(ctx, body)
    await run.begin()
    await run.effect()


async def _hold_slot(seconds: float) -> None:
    if not Path(os.environ[FOLDER], HEALED).exists():
        await asyncio.sleep(seconds)


@_job(
    priority=Priority.CRITICAL,
    attempts=4,
    backoff=f"{BACKOFF_MS}ms",
    uses=bank,
    on_budget="dead_letter",
)
async def paid(body: str, ctx: Context) -> None:
    """Calls a dependency that fails or throttles half of the time.

    ``CRITICAL`` jobs may spend all of the budget.
    """
    is_extra = ambient().is_retry
    history().note(
        "call", job=ctx.job_id, attempt=ctx.attempt, facts={"extra": float(is_extra)}
    )
    run = Run(ctx, body)
    await run.begin()
    draw = random.random()
    if draw < PAID_FAILS_RATIO / 2:
        raise run.fails(Throttled("200ms"))
    if draw < PAID_FAILS_RATIO:
        raise run.fails(OSError("no"))
    await run.effect()


@_job(priority=Priority.LOW, attempts=9, queue="deadly")
async def deadly(body: str, ctx: Context) -> None:
    """Takes its process with it."""
    run = Run(ctx, body)
    await run.begin()
    history().note("fault", kind="handler exits", pids=[os.getpid()])
    os._exit(7)


def _watch_letters() -> None:
    """Put the failpoint between the acknowledgement of a dead letter and its mark."""
    hand_over = Completer._hand_over

    async def watched(self: Completer, steps: list[NextStep]) -> Any:
        taken, left = await hand_over(self, steps)
        if any(step.state is JobState.DEAD for step in taken):
            dies("letter")
        return taken, left

    Completer._hand_over = watched  # type: ignore[method-assign]


if os.environ.get(DIE) == "letter":
    _watch_letters()
if os.environ.get(BUG):
    # Every adapter comes with it, and a worker that is killed each second pays for that.
    from tests.torture.harness.bug import plant

    plant(os.environ[BUG])
