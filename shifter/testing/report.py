"""What a test reads after a drain: counts, dead letters, and why a drain is stuck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shifter.api.job import Job
from shifter.errors import DecodeError, ShifterError, UnsupportedVersionError
from shifter.model.claim import JobState
from shifter.ports import Clock, Delivery
from shifter.telemetry import WorkerMetrics
from shifter.wire.dead_letter import DeadLetterInfo, read_dead_letter
from shifter.wire.headers import read_headers
from shifter.work.item import Item
from shifter.work.job_observer import JobObserver
from shifter.work.next_step import NextStep


class StuckError(ShifterError):
    """A drain cannot go on: a handler waits for something that does not happen.

    Attributes:
        jobs: Names of the jobs that wait, ascending; empty if it is no handler.
        waited_s: How long nothing happened, in seconds of real time; or of the test's
            time, where handlers go on after they were stopped.
    """

    def __init__(
        self, jobs: Sequence[str], waited_s: float, *, was_stopped: bool = False
    ) -> None:
        self.jobs, self.waited_s = tuple(jobs), waited_s
        who = ", ".join(map(repr, jobs)) or "the worker"
        super().__init__(
            f"{who} goes on {waited_s:g} s after it was stopped: a handler must let "
            "asyncio.CancelledError pass"
            if was_stopped
            else f"nothing happened for {waited_s:g} s of real time: {who} waits for "
            "something that is not this test's clock (a thread, a socket, a future "
            "that is never set); replace it in the test, or use fail_with()"
        )


class DrainReport(NamedTuple):
    """What happened during one drain.

    Attributes:
        started: Attempts started.
        done: Jobs that succeeded.
        retried: Attempts that failed and will be repeated, throttled ones included.
        dead: Jobs that went to the dead letters.
        expired: Jobs whose deadline passed.
        cancelled: Jobs that were cancelled.
        discarded: Jobs discarded by their handlers.
        repeated: Records whose job had ended, or ran, under the same idempotency key
            or id: settled without being run.
        waiting: Jobs that wait now, for their time or for their retry.
        misfits: How often a job waited for a worker that has its type and fields,
            since the app under test does not.
    """

    started: int = 0
    done: int = 0
    retried: int = 0
    dead: int = 0
    expired: int = 0
    cancelled: int = 0
    discarded: int = 0
    repeated: int = 0
    waiting: int = 0
    misfits: int = 0


class CountingObserver(JobObserver):
    """An observer of jobs that counts them.

    Attributes:
        counts: The counts of `DrainReport` by field, since the start.
    """

    def __init__(self, clock: Clock, *, worker: str) -> None:
        super().__init__(WorkerMetrics(), clock, worker=worker)
        self.counts: Counter[str] = Counter()

    def started(self, items: Sequence[Item], now_ms: int) -> None:
        """Attempts start."""
        super().started(items, now_ms)
        self.counts["started"] += len(items)

    def done(self, items: Sequence[Item]) -> None:
        """Jobs ended as they should."""
        super().done(items)
        self.counts["done"] += len(items)

    def ended(self, step: NextStep) -> None:
        """A delivery ended otherwise, or its job goes on."""
        super().ended(step)
        if step.is_copy:
            self.counts["repeated"] += 1
        elif step.misfit is not None:
            self.counts["misfits"] += 1
        elif step.state is JobState.WAITING:
            self.counts["retried"] += 1
        else:
            self.counts[step.state.value] += 1


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
    """The dead letter in a record; ``None`` without the headers of one."""
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
