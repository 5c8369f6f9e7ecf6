"""An app that says which processes import it."""

from __future__ import annotations

import os

from shifter import Shifter
from tests.acceptance.jobs import effect

app = Shifter(os.environ.get("TEST_NAMESPACE", "imported"))
if "EFFECTS" in os.environ:
    effect("imported", 0)


@app.job
async def nothing() -> None:
    """Do nothing."""
