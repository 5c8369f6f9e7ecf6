"""shifter: run a job now, defer it, degrade it or shed it.

The door: everything a user needs is imported from here.
"""

from __future__ import annotations

from shifter.api.app import Shifter
from shifter.api.job import Job
from shifter.errors import (
    ConfigError,
    DeadLetter,
    Discard,
    OutcomeUnknownError,
    PayloadError,
    Retry,
    ShifterError,
    Throttled,
)
from shifter.jobs.context import Context
from shifter.jobs.schedule import Window
from shifter.model.answer import Deferred, Degraded, Quality, Ran, Shed
from shifter.model.claim import JobState, JobStatus
from shifter.model.lane import Priority
from shifter.model.reason import Reason
from shifter.policy.delivery.error_rules import Backoff

__all__ = [
    "Backoff",
    "ConfigError",
    "Context",
    "DeadLetter",
    "Deferred",
    "Degraded",
    "Discard",
    "Job",
    "JobState",
    "JobStatus",
    "OutcomeUnknownError",
    "PayloadError",
    "Priority",
    "Quality",
    "Ran",
    "Reason",
    "Retry",
    "Shed",
    "Shifter",
    "ShifterError",
    "Throttled",
    "Window",
]
