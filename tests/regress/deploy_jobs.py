"""One app in two versions: the variable ``VERSION`` is ``old`` or ``new``.

The new one has a job more and a job less, an argument more and an argument less, a job
under another name, and a choice more. Each effect is a line: the job, its number, the
version that ran it.
"""

from __future__ import annotations

import os
from enum import Enum

from shifter import Shifter

VERSION = os.environ.get("VERSION", "new")
IS_NEW = VERSION == "new"
app = Shifter(os.environ.get("TEST_NAMESPACE", "deploy"))


def effect(job: str, number: int) -> None:
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{job} {number} {VERSION}\n")


@app.job
async def steady(number: int) -> None:
    effect("steady", number)


if IS_NEW:

    @app.job
    async def added(number: int) -> None:
        effect("added", number)

    @app.job
    async def more(number: int, colour: str = "") -> None:
        effect("more", number)

    @app.job
    async def less(number: int) -> None:
        effect("less", number)

    @app.job(name="after", aliases=["before"])
    async def renamed(number: int) -> None:
        effect("renamed", number)

    class Kind(Enum):
        A, B = "a", "b"
else:

    @app.job
    async def removed(number: int) -> None:
        effect("removed", number)

    @app.job
    async def more(number: int) -> None:
        effect("more", number)

    @app.job
    async def less(number: int, colour: str) -> None:
        effect("less", number)

    @app.job(name="before")
    async def renamed(number: int) -> None:
        effect("renamed", number)

    class Kind(Enum):
        A = "a"


@app.job
async def chosen(number: int, kind: Kind) -> None:
    effect("chosen", number)
