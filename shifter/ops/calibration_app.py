"""The app that a calibration drains: jobs that do nothing."""

from __future__ import annotations

from shifter import Shifter

app = Shifter("calibration")


@app.job(queue="calibration")
async def noop(number: int) -> None:
    """Do nothing: what it costs is what a job costs besides its handler."""
