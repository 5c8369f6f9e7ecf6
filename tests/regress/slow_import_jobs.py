"""A job in a process of its own, in an app that takes a while to import."""

from __future__ import annotations

import os
import time

from shifter import Context, Shifter
from tests.acceptance.jobs import effect

app = Shifter("shop")

if "SLOW_IMPORT_S" in os.environ:
    time.sleep(float(os.environ["SLOW_IMPORT_S"]))


@app.job(isolate="process", timeout="1s", attempts=1)
def runs_apart(ctx: Context) -> None:
    effect("runs_apart", ctx.job_id, ctx.remaining_s)
