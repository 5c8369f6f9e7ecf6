"""What a service gets back when it hands over a job, and how good that answer is."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from shifter.model.reason import Reason

R = TypeVar("R")


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


class Ran(Generic[R]):
    """The handler ran here and returned.

    Attributes:
        value: What it returned.
        job_id: The job's id, a UUID as text.
        reason: Always ``Reason.ACCEPTED``.
    """

    __match_args__ = ("value",)
    __slots__ = ("job_id", "reason", "value")

    def __init__(self, value: R, *, job_id: str) -> None:
        self.value, self.job_id, self.reason = value, job_id, Reason.ACCEPTED

    def __repr__(self) -> str:
        return f"Ran(value={self.value!r})"


class Degraded(Generic[R]):
    """The job's fallback ran here: a cheaper answer, now.

    Attributes:
        value: What the fallback returned.
        quality: How good the answer is, below ``Quality.FULL``.
        job_id: The id the job would have had.
        reason: Why it was not the handler itself.
        repair: What became of the job itself, which a job with ``repair=True`` puts on
            its LOW lane; ``None`` where nothing was put there, or it is not known.
    """

    __match_args__ = ("value", "quality")
    __slots__ = ("job_id", "quality", "reason", "repair", "value")

    def __init__(
        self, value: R, quality: Quality, *, job_id: str, reason: Reason
    ) -> None:
        self.value, self.quality = value, quality
        self.job_id, self.reason = job_id, reason
        self.repair: Answer | None = None

    def __repr__(self) -> str:
        return f"Degraded(value={self.value!r}, reason={self.reason.value!r})"


class Deferred:
    """The job is durable and waits on a lane.

    Attributes:
        job_id: The job's id, a UUID as text.
        lane: The lane's name.
        eta_s: Seconds until it is expected to start; ``None`` when not known.
        reason: Why it was deferred.
    """

    __match_args__ = ("job_id", "lane", "eta_s")
    __slots__ = ("eta_s", "job_id", "lane", "reason")

    def __init__(
        self,
        job_id: str,
        lane: str,
        eta_s: float | None = None,
        *,
        reason: Reason = Reason.ACCEPTED,
    ) -> None:
        self.job_id, self.lane, self.eta_s, self.reason = job_id, lane, eta_s, reason

    def __repr__(self) -> str:
        return f"Deferred(job_id={self.job_id!r}, lane={self.lane!r})"


class Shed:
    """The job was refused and nothing was written.

    Attributes:
        retry_after_s: Seconds after which asking again is worth while, >= 0;
            ``None`` when a retry will not help.
        job_id: The id the job would have had.
        reason: Why it was refused.
        detail: One line for a log, without secrets.
    """

    __match_args__ = ("retry_after_s",)
    __slots__ = ("detail", "job_id", "reason", "retry_after_s")

    def __init__(
        self,
        retry_after_s: float | None,
        *,
        job_id: str,
        reason: Reason,
        detail: str = "",
    ) -> None:
        self.retry_after_s, self.job_id = retry_after_s, job_id
        self.reason, self.detail = reason, detail

    def __repr__(self) -> str:
        return f"Shed(reason={self.reason.value!r}, retry_after_s={self.retry_after_s})"


Answer: TypeAlias = Deferred | Shed
"""What ``defer`` returns."""

Submitted: TypeAlias = Ran[R] | Deferred | Degraded[R] | Shed
"""What ``submit`` returns."""
