"""The app whose jobs an older version left behind, and this version drains.

While ``OUTAGE`` is set, handlers fail, hang and wait as they have to for every state of
a job to exist. Without it every handler succeeds. Each effect is one line of the file
that ``EFFECTS`` names: job, argument, attempt.
"""

from __future__ import annotations

import asyncio
import importlib
import os

from shifter import Context, DeadLetter, Shifter

_RATE_POLICY_MODULES = (
    "shifter.protection",
    "shifter.policy.rate",
)


def _rate_policy(**values: int) -> object:
    """A rate policy, wherever the version that runs this file keeps the class."""
    for name in _RATE_POLICY_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        return module.RatePolicy(**values)
    raise ModuleNotFoundError(name)


app = Shifter("stored")
mailer = app.dependency("mailer", rate=_rate_policy(per_s=100))
bank = app.dependency("bank")
_IS_OUTAGE = "OUTAGE" in os.environ


def effect(name: str, argument: object, ctx: Context) -> None:
    """Append one line."""
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{name} {argument} {ctx.attempt}\n")


@app.job(keep_status="1d")
async def note(number: int, ctx: Context) -> None:
    effect("note", number, ctx)


@app.job(keep_status="1d", backoff="25s", attempts=10)
async def flaky(number: int, ctx: Context) -> None:
    if _IS_OUTAGE:
        raise OSError("the disk is away")
    effect("flaky", number, ctx)


@app.job(queue="mail", uses=mailer, attempts=9, backoff="25s", keep_status="1d")
async def send(number: int, ctx: Context) -> None:
    if _IS_OUTAGE:
        raise ConnectionError("the mail server is away")
    effect("send", number, ctx)


@app.job(queue="mail", keep_status="1d")
async def hopeless(number: int, ctx: Context) -> None:
    if _IS_OUTAGE:
        raise DeadLetter(f"no customer has the number {number}")
    effect("hopeless", number, ctx)


@app.job(queue="keyed", keep_status="1d")
async def step(number: int, ctx: Context) -> None:
    effect("step", number, ctx)


@app.job(queue="slow", timeout="60s", keep_status="1d")
async def hang(number: int, ctx: Context) -> None:
    if _IS_OUTAGE:
        effect("hang-began", number, ctx)
        await asyncio.sleep(60)
    effect("hang", number, ctx)


@app.job(queue="clock", cron="* * * * *")
async def tick(ctx: Context) -> None:
    effect("tick", ctx.job_id, ctx)
