"""How good an answer is: what a fleet under load gives up first."""

from __future__ import annotations

from enum import StrEnum


class Quality(StrEnum):
    """Of an answer, and of the fleet; the value is the published word.

    Attributes:
        FULL: What the job itself computes.
        REDUCED: The fallback answers in place of jobs at ``NORMAL`` and ``LOW``.
        MINIMAL: The fallback answers in place of all jobs below ``CRITICAL``.
    """

    FULL = "FULL"
    REDUCED = "REDUCED"
    MINIMAL = "MINIMAL"
