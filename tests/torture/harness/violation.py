"""What a checker finds."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """One thing that must not be.

    Attributes:
        checker: Its number.
        text: What is wrong.
        job: Whom it is about, if one job.
    """

    checker: str
    text: str
    job: str = ""
