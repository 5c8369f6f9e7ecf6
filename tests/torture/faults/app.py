"""The app whose jobs run while things break.

Each effect is one line appended to the file ``EFFECTS`` names: number, attempt, process
id and wall clock.
"""

from __future__ import annotations

import asyncio
import os
import time

from shifter import Context, DeadLetter, Shifter


def effect(number: int, attempt: int) -> None:
    """Append one line; short appends are atomic."""
    line = f"{number} {attempt} {os.getpid()} {time.time():.6f}\n"
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(line)


def register(app: Shifter) -> Shifter:
    """Give an app the jobs; returns it."""

    @app.job(claims="proceed")
    async def note(number: int, ctx: Context) -> None:
        """Runs also while nobody can say whether it ran."""
        effect(number, ctx.attempt)

    @app.job(claims="park")
    async def once(number: int, ctx: Context) -> None:
        """Waits until somebody can say."""
        effect(number, ctx.attempt)

    @app.job(claims="park", timeout="120s")
    async def slow(number: int, seconds: float, ctx: Context) -> None:
        """Takes its time; its effect is at its beginning and at its end."""
        effect(-number, ctx.attempt)
        await asyncio.sleep(seconds)
        effect(number, ctx.attempt)

    @app.job(attempts=1)
    async def hopeless(number: int, reason: str) -> None:
        """Ends as a dead letter."""
        raise DeadLetter(reason)

    return app


app = register(Shifter(os.environ.get("TEST_NAMESPACE", "torture")))
