"""What a service gets back when it hands over a job, and how good that answer is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from shifter.model.reason import Reason

R = TypeVar("R")

# Answers have no equality of their own: it would compare values of handlers, which
# may have an expensive or a broken one.


class Quality(StrEnum):
    """Quality of an answer, and of the fleet; the value is the published word.

    Attributes:
        FULL: What the job itself computes.
        REDUCED: The fallback answers in place of jobs at ``NORMAL`` and ``LOW``.
        MINIMAL: The fallback answers in place of all jobs below ``CRITICAL``.
    """

    FULL = "FULL"
    REDUCED = "REDUCED"
    MINIMAL = "MINIMAL"


@dataclass(slots=True, eq=False, repr=False)
class Ran(Generic[R]):
    """The handler ran here and returned.

    Attributes:
        value: What it returned.
        job_id: The job's id, a UUID as text.
        reason: Always ``Reason.ACCEPTED``.
    """

    value: R
    job_id: str = field(kw_only=True)
    reason: Reason = field(default=Reason.ACCEPTED, init=False)

    def __repr__(self) -> str:
        return f"Ran(value={self.value!r})"


@dataclass(slots=True, eq=False, repr=False)
class Degraded(Generic[R]):
    """The job's fallback ran here: a cheaper answer, now.

    Attributes:
        value: What the fallback returned.
        quality: How good the answer is, below ``Quality.FULL``.
        job_id: The id the job would have had.
        reason: Why the handler itself did not run.
        repair: Answer for the job itself, which a job with ``repair=True`` puts on its
            ``LOW`` lane; ``None`` if nothing was put there, or it is not known.
    """

    value: R
    quality: Quality
    job_id: str = field(kw_only=True)
    reason: Reason = field(kw_only=True)
    repair: Answer | None = field(default=None, init=False)

    def __repr__(self) -> str:
        return f"Degraded(value={self.value!r}, reason={self.reason.value!r})"


@dataclass(slots=True, eq=False, repr=False)
class Deferred:
    """The job is durable and waits on a lane.

    Attributes:
        job_id: The job's id, a UUID as text.
        lane: The lane's name.
        eta_s: Seconds until it is expected to start; ``None`` when not known.
        reason: Why it was deferred.
    """

    job_id: str
    lane: str
    eta_s: float | None = None
    reason: Reason = field(default=Reason.ACCEPTED, kw_only=True)

    def __repr__(self) -> str:
        return f"Deferred(job_id={self.job_id!r}, lane={self.lane!r})"


@dataclass(slots=True, eq=False, repr=False)
class Shed:
    """The job was refused and nothing was written.

    Attributes:
        retry_after_s: Seconds after which asking again is worth while, >= 0;
            ``None`` when a retry will not help.
        job_id: The id the job would have had.
        reason: Why it was refused.
        detail: One line for a log, without secrets.
    """

    retry_after_s: float | None
    job_id: str = field(kw_only=True)
    reason: Reason = field(kw_only=True)
    detail: str = field(default="", kw_only=True)

    def __repr__(self) -> str:
        return f"Shed(reason={self.reason.value!r}, retry_after_s={self.retry_after_s})"


Answer: TypeAlias = Deferred | Shed
"""What ``defer`` returns."""

Submitted: TypeAlias = Ran[R] | Deferred | Degraded[R] | Shed
"""What ``submit`` returns."""
