"""The public test kit: what jobs, adapters and their authors are tested with.

`TestApp` runs the jobs of an app in memory and in virtual time. The suites that every
adapter of a port must pass are in `shifter.testing.conformance`.
"""

from __future__ import annotations

from shifter.jobs.registered import Call
from shifter.testing.app import OpenApp, TestApp
from shifter.testing.clock import FakeClock
from shifter.testing.report import DrainReport, Letter, StuckError

__all__ = [
    "Call",
    "DrainReport",
    "FakeClock",
    "Letter",
    "OpenApp",
    "StuckError",
    "TestApp",
]
