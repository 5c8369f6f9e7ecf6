"""How good an answer has to be while there is not enough for the best one."""

from __future__ import annotations

from enum import StrEnum


class Quality(StrEnum):
    """Set by load or by hand; handlers read it and make cheaper answers."""

    FULL = "full"
    REDUCED = "reduced"
    MINIMAL = "minimal"
