"""An app whose jobs call something that is a file: it is well while that exists."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from shifter import Context, Shifter
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.limit import LimitMode, LimitPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.protection import CircuitPolicy, EvidencePolicy
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))

COOLDOWN_S = 4

bank = app.dependency(
    "bank",
    circuit=CircuitPolicy(
        cooldown_ms=COOLDOWN_S * 1_000,
        max_cooldown_ms=COOLDOWN_S * 2_000,
        ramp_ms=500,
    ),
    evidence=EvidencePolicy(consecutive_failures=3),
)


def is_well() -> bool:
    """Whether the dependency answers."""
    return Path(os.environ["EFFECTS"]).with_name("bank-is-well").exists()


@app.job(uses=bank, attempts=2, backoff="100ms", repair=True)
async def pay(number: int, ctx: Context) -> None:
    effect("called", number, ctx.attempt)
    if not is_well():
        raise OSError("the bank is closed")
    effect("paid", number, ctx.attempt)


@app.job(uses=bank, repair=True)
async def rate(number: int, ctx: Context) -> None:
    effect(f"rated-{ctx.quality.value}", number)


@rate.fallback
async def rate_by_guess(number: int, ctx: Context) -> None:
    effect(f"guessed-{ctx.quality.value}", number)


dark = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))

closed_bank = dark.dependency(
    "closed-bank",
    evidence=EvidencePolicy(consecutive_failures=3),
    limit=LimitPolicy(mode=LimitMode.FIXED, initial=1),
    budget=BudgetPolicy(ratio=0.0, floor_per_s=1, ttl_ms=1_000),
    rate=RatePolicy(per_s=0.1),
    dark=["circuit", "limit", "budget", "rate"],
)


@dark.job(uses=closed_bank, attempts=3, backoff="100ms")
async def knock(number: int, ctx: Context) -> None:
    effect("called", number, ctx.attempt)
    await asyncio.sleep(0.5)
    raise OSError("the bank is closed")
