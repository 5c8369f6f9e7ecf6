"""The app of workers whose state store lies: it uses all that a fleet shares.

A run is one line of the file ``EFFECTS`` names: the job's id.
"""

from __future__ import annotations

import os

from shifter import Context, Priority, Shifter
from shifter.policy.protection.budget import BudgetPolicy
from shifter.policy.protection.quality import QualityPolicy
from shifter.policy.protection.rate import RatePolicy
from shifter.protection import CircuitPolicy

app = Shifter(os.environ.get("TEST_NAMESPACE", "liars"), quality=QualityPolicy())

bank = app.dependency(
    "bank",
    circuit=CircuitPolicy(),
    budget=BudgetPolicy(),
    rate=RatePolicy(per_s=1_000, burst=100),
)


@app.job
async def handler(number: float, ctx: Context) -> None:
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{ctx.job_id}\n")


@app.job(uses=bank, repair=True)
async def pay(number: float) -> None:
    """Nobody asks for it."""


@app.job(cron="* * * * *", priority=Priority.LOW, opportunistic=True)
async def tick() -> None:
    """Fires while a worker runs."""
