"""An app of three dependencies, each of which is broken while a file says so."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from shifter import Context, Shifter
from shifter.protection import CircuitPolicy, EvidencePolicy
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))

WORK_S = 0.6
PACED_S = 5.0
"""What a call takes longer while a file says so."""


def _dependency(name: str):
    return app.dependency(
        name,
        circuit=CircuitPolicy(cooldown_ms=4_000, max_cooldown_ms=8_000, ramp_ms=500),
        evidence=EvidencePolicy(consecutive_failures=3),
    )


def broken(name: str) -> Path:
    """The file that breaks a dependency while it exists."""
    return Path(os.environ["EFFECTS"]).with_name(f"broken-{name}")


def paced(name: str) -> Path:
    """The file that slows the calls of a dependency down while it exists."""
    return Path(os.environ["EFFECTS"]).with_name(f"paced-{name}")


async def _call(name: str, number: int, ctx: Context) -> None:
    if broken(name).exists():
        raise ConnectionError(f"{name} does not answer")
    await asyncio.sleep(WORK_S)
    for _ in range(50):
        if not paced(name).exists():
            break
        await asyncio.sleep(PACED_S / 50)
    effect(name, number, ctx.attempt)


bank, mailer, printer = map(_dependency, ("bank", "mailer", "printer"))


@app.job(queue="payments", uses=bank)
async def pay(number: int, ctx: Context) -> None:
    await _call("bank", number, ctx)


@app.job(queue="mail", uses=mailer, attempts=1)
async def send(number: int, ctx: Context) -> None:
    await _call("mailer", number, ctx)


@app.job(queue="paper", uses=printer)
async def print_out(number: int, ctx: Context) -> None:
    await _call("printer", number, ctx)
