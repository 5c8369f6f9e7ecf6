"""The app that acceptance tests run in real worker processes.

Each effect is one line appended to the file ``EFFECTS`` names: name, argument, attempt,
process id and wall clock.
"""

from __future__ import annotations

import asyncio
import os
import time

from shifter import Context, DeadLetter, Priority, Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))


def effect(name: str, argument: object, attempt: int = 1) -> None:
    """Append one line; short appends are atomic."""
    line = f"{name} {argument} {attempt} {os.getpid()} {time.time():.6f}\n"
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(line)


@app.job
async def note(number: int, ctx: Context) -> None:
    effect("note", number, ctx.attempt)


@app.job(queue="slow", timeout="60s")
async def slow(number: int, seconds: float = 1.0) -> None:
    effect("begun", number)
    await asyncio.sleep(seconds)
    effect("slow", number)


@app.job(queue="slow", timeout="1h")
async def endless() -> None:
    """Runs until its worker is killed."""
    await asyncio.Event().wait()


@app.job(attempts=3, backoff="300ms")
async def flaky(number: int, ctx: Context) -> None:
    effect("flaky", number, ctx.attempt)
    if ctx.attempt < 3:
        raise OSError("not yet")


@app.job
async def hopeless(reason: str) -> None:
    raise DeadLetter(reason)


@app.job
def threaded(number: int) -> None:
    effect("threaded", number)


@app.job(isolate="process", attempts=1, timeout="10s")
def isolated(number: int, crash: bool = False) -> None:
    effect("isolated", number)
    if crash:
        os._exit(9)


@app.job(queue="keyed", attempts=5, backoff="100ms")
async def step(key: str, number: int, ctx: Context) -> None:
    if number % 5 == 0 and ctx.attempt == 1:
        raise OSError("once more")
    effect(f"step-{key}", number, ctx.attempt)


@app.job(priority=Priority.LOW, attempts=9)
async def deadly(number: int) -> None:
    effect("deadly", number)
    os._exit(7)
