"""The state of one job, and its cancellation, without the program that declares it."""

from __future__ import annotations

from shifter.api.app import Shifter
from shifter.config import Settings
from shifter.model.claim import JobStatus


async def job_status(settings: Settings, job_id: str) -> JobStatus | None:
    """The state of a job; ``None`` if it has not started or is forgotten.

    Raises:
        StoreError: The state store does not answer.
    """
    return await Shifter(settings.namespace, settings=settings).status(job_id)


async def cancel_job(settings: Settings, job_id: str) -> JobStatus:
    """Ask that a job not run, or not run again.

    Returns:
        The job's state afterwards; a job that has ended keeps its end.

    Raises:
        StoreError: The state store does not answer.
    """
    return await Shifter(settings.namespace, settings=settings).cancel(job_id)
