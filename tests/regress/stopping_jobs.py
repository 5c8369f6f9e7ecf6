"""The app of `test_stopping`: each job takes its time, then has one effect."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from shifter import Context, Shifter
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "stopping"))

# How long jobs take whose submission says otherwise.
JOB_S = os.environ.get("JOB_S")

# How long the import takes, and the file that says that it has begun.
if "IMPORT_S" in os.environ:
    effect("importing", os.getppid())
    time.sleep(float(os.environ["IMPORT_S"]))


def pause_s(seconds: float) -> float:
    return seconds if JOB_S is None else float(JOB_S)


@app.job
async def awaits(number: int, ctx: Context, seconds: float = 1.0) -> None:
    """Give the event loop back while it waits."""
    effect("begun", number, ctx.attempt)
    await asyncio.sleep(pause_s(seconds))
    effect("ended", number, ctx.attempt)


@app.job
async def blocks(number: int, ctx: Context, seconds: float = 1.0) -> None:
    """Keep the event loop while it waits."""
    effect("begun", number, ctx.attempt)
    time.sleep(pause_s(seconds))
    effect("ended", number, ctx.attempt)


@app.job
def threaded(number: int, ctx: Context, seconds: float = 1.0) -> None:
    """Run in a thread."""
    effect("begun", number, ctx.attempt)
    time.sleep(pause_s(seconds))
    effect("ended", number, ctx.attempt)


@app.job(isolate="process")
def isolated(number: int, ctx: Context, seconds: float = 1.0) -> None:
    """Run in a process of its own."""
    effect("begun", number, ctx.attempt)
    time.sleep(pause_s(seconds))
    effect("ended", number, ctx.attempt)


@app.job(isolate="process")
def parental(number: int, ctx: Context, seconds: float = 1.0) -> None:
    """Run in a process of its own, and start another one that has the effect."""
    program = (
        "import time; from tests.acceptance.jobs import effect; "
        f"effect('begun', {number}); time.sleep({seconds}); effect('ended', {number})"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@app.job
def orphaning(number: int) -> None:
    """Leave a process behind whose parent is gone."""
    program = "import subprocess; print(subprocess.Popen(['sleep', '0.2']).pid)"
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE
    )
    effect("orphan", int(told.stdout), number)
