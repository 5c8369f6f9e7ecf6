"""One run of a handler, as a test sees it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(slots=True)
class Call:
    """A run of a handler in a `shifter.testing.TestApp`; failed ones count too.

    Attributes:
        arguments: What the handler was called with, by name, without its `Context`.
        job_id: The job's id.
        attempt: Attempt number, 1-based.
        at: When it started, in the test's time.
        error: What ended it, signals and planned failures included; ``None`` while it
            runs and where it succeeded.
    """

    arguments: Mapping[str, Any]
    job_id: str
    attempt: int
    at: datetime
    error: BaseException | None = None
