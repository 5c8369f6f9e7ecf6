"""shifter: run a job now, defer it, degrade it or shed it.

The door: everything a user needs is imported from here.
"""

from __future__ import annotations

from shifter.app import Shifter
from shifter.context import Context
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
from shifter.job import Job
from shifter.model.answer import Deferred, Degraded, Ran, Shed
from shifter.model.priority import Priority
from shifter.model.quality import Quality
from shifter.model.reason import Reason
from shifter.model.state import JobState, JobStatus
from shifter.policy.circuit import CircuitPolicy
from shifter.policy.evidence import EvidencePolicy
from shifter.window import Window

__all__ = [
    "CircuitPolicy",
    "ConfigError",
    "Context",
    "DeadLetter",
    "Deferred",
    "Degraded",
    "Discard",
    "EvidencePolicy",
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
