"""The app of live workers that are fed with bad records.

A run is one line of the file ``EFFECTS`` names: the job's id and its argument.
"""

from __future__ import annotations

import os
from typing import Any

from shifter import Context, Shifter

app = Shifter(os.environ.get("TEST_NAMESPACE", "bad-inputs"))


@app.job
async def handler(
    number: float, ctx: Context, text: str = "", items: Any = None
) -> None:
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{ctx.job_id} {number}\n")
