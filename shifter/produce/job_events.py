"""Makes events of what a service does with a job: its decision, and the log's answer.

With ``failures`` an answer is recorded that is not the usual one: the job was refused,
answered by a fallback, spooled, put on its lane to protect a dependency, or its outcome
is unknown. The acceptance of other jobs can be told from a worker's events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from shifter.errors import OutcomeUnknownError
from shifter.model.answer import Answer, Deferred
from shifter.model.lane import parse_lane
from shifter.model.reason import Reason
from shifter.ports import Clock
from shifter.produce.options import CallPlan
from shifter.wire.job_event import EventKind, JobEvent, shown_text

_USUAL: Final = frozenset(
    {
        Reason.ACCEPTED,
        Reason.DUPLICATE,
        Reason.NOT_DUE,
        Reason.NOT_INLINE,
        Reason.WINDOW_CLOSED,
    }
)
"""Reasons of answers that protect nothing and lose nothing."""
_UNKNOWN: Final = "unknown"


class QueuedEvents(Protocol):
    """Where events are queued: `shifter.telemetry.job_events.ServiceEvents`."""

    is_all: bool

    @property
    def put(self) -> Callable[[JobEvent], None]:
        """Queue an event; never blocks, never raises."""

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop."""


class PublisherEvents:
    """Makes the events of one service process. Safe to share between threads.

    Args:
        events: Where they are queued; closed with this.
        clock: Dates them.

    Attributes:
        is_all: Whether usual answers are recorded too.
    """

    def __init__(self, events: QueuedEvents, clock: Clock) -> None:
        self._events, self._clock = events, clock
        self.is_all = events.is_all

    def submitted(
        self, plan: CallPlan, job_id: str, answer: Answer | OutcomeUnknownError
    ) -> None:
        """The log was given a job.

        Args:
            plan: The call.
            job_id: The job's id.
            answer: What is answered; an error where the outcome is unknown.
        """
        if isinstance(answer, OutcomeUnknownError):
            detail = shown_text(str(answer))
            self._put(plan, job_id, EventKind.SUBMITTED, _UNKNOWN, _UNKNOWN, detail)
        elif self.is_all or answer.reason not in _USUAL:
            is_taken = isinstance(answer, Deferred)
            word = "deferred" if is_taken else "shed"
            detail = "" if isinstance(answer, Deferred) else shown_text(answer.detail)
            reason = answer.reason.value
            self._put(plan, job_id, EventKind.SUBMITTED, word, reason, detail)

    def decided(self, plan: CallPlan, job_id: str, answer: str, reason: Reason) -> None:
        """A call of submit was answered.

        Args:
            plan: The call.
            job_id: The job's id.
            answer: ``ran``, ``deferred``, ``degraded``, ``shed`` or ``error``.
            reason: Why.
        """
        is_usual = reason in _USUAL and answer in ("ran", "deferred")
        if self.is_all or not is_usual:
            self._put(plan, job_id, EventKind.DECIDED, answer, reason.value, "")

    def close(self) -> None:
        """Write what is queued, for a bounded time, and stop."""
        self._events.close()

    def _put(
        self,
        plan: CallPlan,
        job_id: str,
        kind: EventKind,
        answer: str,
        reason: str,
        detail: str,
    ) -> None:
        lane = parse_lane(plan.lane)
        event = JobEvent(
            at_ms=self._clock.epoch_ms(),
            event=kind.value,
            id=job_id,
            job=plan.spec.name,
            queue="" if lane is None else lane.queue,
            priority=plan.priority.value,
            answer=answer,
            reason=reason,
            detail=detail,
        )
        self._events.put(event)
