"""What a handler may ask about the attempt it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shifter.errors import DeadlineExceededError, JobCancelledError
from shifter.jobs.job_log import JobLog
from shifter.model.answer import Quality
from shifter.model.time import EpochMs

if TYPE_CHECKING:
    from shifter.ports import Clock


class Context:
    """One attempt of a job, as its handler sees it.

    A handler parameter annotated ``Context`` receives it; it is not part of the
    payload.

    Attributes:
        job_id: The job's id, a UUID as text.
        job_type: The job type's name.
        attempt: 1-based, counts the first.
        fence: Grows with every grant; hand it to a resource that can refuse an older
            one. 0 when the claim store was away (``claims="proceed"``).
        key: Ordering key, if any.
        idempotency_key: The user's key, or the job id.
        limit_ms: When this attempt's time is up, epoch milliseconds.
        traceparent: W3C trace context of the submitter, if any.
        quality: How good an answer has to be now: less than ``FULL`` while the fleet
            has no room for the best one.
    """

    __slots__ = (
        "_clock",
        "_log",
        "attempt",
        "cancelled",
        "fence",
        "idempotency_key",
        "job_id",
        "job_type",
        "key",
        "limit_ms",
        "quality",
        "traceparent",
    )

    def __init__(  # noqa: PLR0913  # made in two places, by keyword
        self,
        *,
        job_id: str,
        job_type: str,
        attempt: int,
        fence: int,
        limit_ms: EpochMs,
        clock: Clock,
        key: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        quality: Quality = Quality.FULL,
    ) -> None:
        self.job_id, self.job_type, self.attempt = job_id, job_type, attempt
        self.fence, self.key, self.traceparent = fence, key, traceparent
        self.idempotency_key = job_id if idempotency_key is None else idempotency_key
        self.cancelled, self.quality = False, quality
        self.limit_ms, self._clock = limit_ms, clock
        self._log: Any = None

    @property
    def remaining_s(self) -> float:
        """Seconds this attempt has left: timeout or deadline, the nearer; >= 0."""
        return max(0.0, (self.limit_ms - self._clock.epoch_ms()) / 1_000)

    def checkpoint(self) -> None:
        """Return while going on makes sense; call it between the steps of long work.

        Raises:
            JobCancelledError: Somebody cancelled the job.
            DeadlineExceededError: The attempt's time is up.
        """
        if self.cancelled:
            raise JobCancelledError(self.job_id)
        late_ms = self._clock.epoch_ms() - self.limit_ms
        if late_ms >= 0:
            raise DeadlineExceededError(self.job_id, late_ms / 1_000)

    @property
    def log(self) -> Any:
        """A structlog logger that knows the job's id, type and attempt.

        A call never fails the job: see `shifter.jobs.job_log.JobLog`.
        """
        if self._log is None:
            self._log = JobLog.of_job(
                job_id=self.job_id, job=self.job_type, attempt=self.attempt
            )
        return self._log
