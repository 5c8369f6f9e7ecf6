"""Jobs that proceed, and jobs that wait, while the claim store is away."""

from __future__ import annotations

import os

from shifter import Context, Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "parking"))


def note(job_id: str) -> None:
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{job_id}\n")


@app.job
async def proceeds(ctx: Context) -> None:
    note(ctx.job_id)


@app.job(claims="park")
async def parks(ctx: Context) -> None:
    note(ctx.job_id)
