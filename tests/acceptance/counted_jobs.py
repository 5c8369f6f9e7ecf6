"""A job that calls a dependency, which fails while the file ``EFFECTS``.broken exists."""

from __future__ import annotations

import os
from pathlib import Path

from shifter import Context, Shifter
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "acceptance"))
mailer = app.dependency("mailer")


def broken() -> Path:
    """The file that breaks the dependency while it exists."""
    return Path(os.environ["EFFECTS"]).with_name("broken")


@app.job(queue="mail", attempts=1)
async def send(number: int, ctx: Context) -> None:
    effect("begun", number, ctx.attempt)
    async with mailer:
        effect("called", number, ctx.attempt)
        if broken().exists():
            raise ConnectionError("mailer does not answer")
