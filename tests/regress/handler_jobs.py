"""Jobs that worker processes and isolated processes of these tests import by name."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import subprocess
import threading
import time

from shifter import Backoff, Context, Shifter
from shifter.work import attempt as attempts
from tests.acceptance.jobs import effect
from tests.regress.leaving import leave

app = Shifter(os.environ.get("TEST_NAMESPACE", "shop"))

if "HURRIED" in os.environ:
    attempts.STOP_AGAIN_S, attempts.STOP_GRACE_S = 0.5, 1.5


@app.job(isolate="process", attempts=1)
def leaves_process(how: str) -> None:
    leave(how)


@app.job(isolate="process", attempts=1)
async def leaves_async_process(how: str) -> None:
    leave(how)


@app.job(
    isolate="process",
    attempts=3,
    give_up_on=LookupError,
    retry={OSError: Backoff("30s", most="1m")},
)
def fails_by_kind(kind: str) -> None:
    """Raise an exception, or let the process die."""
    if kind == "dies":
        os._exit(3)
    raise {"key": KeyError, "net": ConnectionError}.get(kind, RuntimeError)(kind)


@app.job(timeout="2s", attempts=1)
def waits_in_c(ctx: Context) -> None:
    """Go on for ever in one call that no exception reaches."""
    effect("waits_in_c", ctx.job_id, ctx.attempt)
    threading.Event().wait()


@app.job(timeout="2s", attempts=1)
async def swallows(ctx: Context) -> None:
    """Go on for ever, whatever it is told."""
    effect("swallows", ctx.job_id, ctx.attempt)
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(60)


@app.job
async def beside(number: int, ctx: Context, seconds: float = 0.0) -> None:
    """Start beside a job that does not end, and end."""
    await asyncio.sleep(seconds)
    effect("beside", number, ctx.attempt)


def note_pid(number: int) -> int:
    effect("below", number, os.getpid())
    return number * number


@app.job(isolate="process", attempts=1, timeout="1m")
def uses_a_pool(kind: str) -> None:
    """Compute in processes of its own, as numeric libraries do."""
    if kind in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(kind).Pool(2) as pool:
            found = pool.map(note_pid, [1, 2, 3])
    elif kind == "executor":
        with concurrent.futures.ProcessPoolExecutor(2) as executor:
            found = list(executor.map(note_pid, [1, 2, 3]))
    else:
        process = multiprocessing.Process(target=note_pid, args=(1,))
        process.start()
        process.join()
        found = [1, 4, 9] if process.exitcode == 0 else []
    assert found == [1, 4, 9]


@app.job(isolate="process", attempts=1, timeout="20s")
def returns_a_future(fails: bool):
    """Return what an executor still computes."""
    executor = concurrent.futures.ThreadPoolExecutor(1)
    future = executor.submit(effect_later, fails)
    executor.shutdown(wait=False)
    return future


def effect_later(fails: bool) -> None:
    time.sleep(0.1)
    if fails:
        raise ValueError("too late")
    effect("later", 1)


@app.job(isolate="process", attempts=1, timeout="6s")
def leaves_grandchildren(kind: str) -> None:
    """Start processes that go on for long, and outlive its timeout."""
    if kind == "pool":
        pool = multiprocessing.get_context("fork").Pool(2)
        pool.map(sleep_long, range(2))
    elif kind == "shell":
        script = "echo below 0 0 $$ 0 >> $EFFECTS; sleep 60"
        subprocess.run(["sh", "-c", script], check=False)
    else:
        process = subprocess.Popen(["sleep", "60"])
        effect("below", process.pid)
        threading.Event().wait()


def sleep_long(number: int) -> None:
    effect("below", number)
    time.sleep(60)
