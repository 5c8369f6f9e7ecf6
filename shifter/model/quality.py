"""How good an answer is: what a fleet under load gives up first."""

from __future__ import annotations

from enum import StrEnum


class Quality(StrEnum):
    """Of an answer, and of the fleet; the value is the published word."""

    FULL = "FULL"
    REDUCED = "REDUCED"
    MINIMAL = "MINIMAL"
