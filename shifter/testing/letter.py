"""A dead letter, as a test wants to look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shifter.api.job import Job
from shifter.errors import DecodeError, UnsupportedVersionError
from shifter.ports import Delivery
from shifter.wire.dead_letter import DeadLetterInfo, read_dead_letter
from shifter.wire.headers import read_headers


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        reason: A `shifter.Reason` value, such as ``attempts_exhausted``.
        job_id: The job's id; ``None`` when the envelope could not be read.
        job: The job type's name; ``None`` likewise.
        attempts: Attempts made; 0 when it never ran.
        error_type: Class of the last error, or the reason.
        error_message: Its message.
        arguments: The payload as the handler would get it; ``None`` if unreadable.
        value: The record's bytes.
        info: The content of its headers.
    """

    reason: str
    job_id: str | None
    job: str | None
    attempts: int
    error_type: str
    error_message: str
    arguments: Mapping[str, Any] | None
    value: bytes | None
    info: DeadLetterInfo


def read_letter(delivery: Delivery, jobs: Mapping[str, Job[..., Any]]) -> Letter | None:
    """The letter in a record of a dead-letter topic; ``None`` if it is none."""
    info = read_dead_letter(delivery.headers)
    if info is None:
        return None
    return Letter(
        reason=info.reason,
        job_id=info.job_id,
        job=info.job_type,
        attempts=info.attempts,
        error_type=info.error_type,
        error_message=info.error_message,
        arguments=_arguments(delivery, jobs),
        value=delivery.value,
        info=info,
    )


def _arguments(
    delivery: Delivery, jobs: Mapping[str, Job[..., Any]]
) -> dict[str, Any] | None:
    try:
        read = read_headers(delivery.headers)
        job = jobs.get(read.envelope.type)
        if job is None:
            return None
        return job.codec.decode(delivery.value, read.content_type)
    except (DecodeError, UnsupportedVersionError):
        return None
