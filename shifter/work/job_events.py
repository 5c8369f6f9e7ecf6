"""Makes events of what a worker does with a job.

With ``failures`` a job costs an event only when something went wrong with it, or it was
slow: an attempt that failed, any end but a success, a wait for a circuit or a budget, a
success after one of these or after half of the job's timeout. So a drain without
failures pays one comparison for each job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shifter.model.claim import JobState
from shifter.model.lane import Lane
from shifter.policy.protection.dependency import Protection
from shifter.ports import Clock
from shifter.telemetry.job_events import JobEventStream
from shifter.wire.job_event import EventKind, JobEvent, WaitCause, shown_text
from shifter.work.item import HeldWaits, Item, Unreadable
from shifter.work.next_step import NextStep

_SLOW_LEAST_S: Final = 1.0
"""No attempt is slow that took less, whatever its timeout."""

_DONE: Final = EventKind.DONE.value
_KINDS: Final = {
    JobState.DEAD: EventKind.DEAD_LETTERED,
    JobState.EXPIRED: EventKind.EXPIRED,
    JobState.CANCELLED: EventKind.CANCELLED,
    JobState.DISCARDED: EventKind.DISCARDED,
}
_FAULTS: Final = frozenset({WaitCause.CIRCUIT, WaitCause.BUDGET})
"""Waits that are recorded with ``failures``: the others are a dependency's usual
limits."""


class WorkerEvents:
    """Makes the events of one worker process. Owned by its event loop.

    Args:
        stream: Where they are queued.
        clock: Dates them.
    """

    def __init__(self, stream: JobEventStream, clock: Clock) -> None:
        self.stream, self._clock = stream, clock
        self._names: dict[Lane, tuple[str, str]] = {}

    def held(self, item: Item, by: Protection) -> None:
        """An item waits for its dependency."""
        cause, now_ms = WaitCause(by.value), self._clock.epoch_ms()
        is_new = self._hold(item, cause, now_ms)
        if is_new and (self.stream.is_all or cause in _FAULTS):
            self._put(item, EventKind.WAITING, now_ms, cause=cause.value)

    def done(self, items: Sequence[Item]) -> None:
        """Jobs succeeded."""
        stream = self.stream
        if not stream.is_all:
            items = [
                item
                for item in items
                if item.attempt > 1
                or item.was_run
                or item.held is not None
                or item.envelope.replay_of is not None
                or ((item.ran_s or 0.0) > _SLOW_LEAST_S and _is_slow(item))
            ]
        if not items:
            return
        now_ms = self._clock.epoch_ms()
        for item in items:
            self._put(item, EventKind.DONE, now_ms)

    def ended(self, step: NextStep) -> None:
        """A delivery ended otherwise, or its job goes on in place."""
        item, now_ms = step.entry, self._clock.epoch_ms()
        if step.is_copy or isinstance(item, Unreadable):
            return
        if step.state is JobState.WAITING:
            self._waits(item, step, now_ms)
        elif step.state is JobState.DONE:
            self._put(item, EventKind.DONE, now_ms)
        else:
            self._put(item, _KINDS[step.state], now_ms, 0, **_causes(step))

    def _waits(self, item: Item, step: NextStep, now_ms: int) -> None:
        until_ms = 0
        if step.record is not None:
            until_ms = step.record.due_ms or 0
        elif step.wait_s is not None:
            until_ms = now_ms + int(step.wait_s * 1_000)
        cause = _wait_cause(item, step)
        if cause is WaitCause.RETRY:
            self._put(item, EventKind.FAILED, now_ms, until_ms, **_causes(step))
        elif self.stream.is_all or (
            # A job is offered to other workers again and again: once is enough.
            cause is WaitCause.DEPLOY
            and item.envelope.misfit_since_ms is None
            and item.held is None
        ):
            kind, facts = EventKind.WAITING, _causes(step)
            self._put(item, kind, now_ms, until_ms, cause=cause.value, **facts)
        if step.wait_s is not None:
            item.started_ms = item.ran_s = None
            self._hold(item, cause, now_ms)

    def _hold(self, item: Item, cause: WaitCause, now_ms: int) -> bool:
        """Note what an item waits for; whether that is something else than before."""
        if item.held is None:
            item.held = HeldWaits(cause.value, now_ms)
            return True
        return item.held.begin(cause.value, now_ms)

    def _put(
        self,
        item: Item,
        kind: EventKind,
        now_ms: int,
        until_ms: int = 0,
        **facts: str,
    ) -> None:
        stream, envelope = self.stream, item.envelope
        if not stream.has_room():
            return
        queue, priority = self._lane(item.lane)
        started_ms = item.started_ms or 0
        event = JobEvent(
            at_ms=now_ms,
            event=kind.value,
            id=envelope.id,
            job=envelope.type,
            queue=queue,
            priority=priority,
            attempt=item.attempt,
            created_ms=item.accepted_ms,
            started_ms=started_ms,
            ran_ms=int((item.ran_s or 0.0) * 1_000),
            waits=self._waits_before(item, started_ms) if started_ms else {},
            replay_of=envelope.replay_of or "",
            until_ms=until_ms,
            **facts,
        )
        stream.put(event)

    def _waits_before(self, item: Item, started_ms: int) -> dict[str, int]:
        """Milliseconds that a job waited on its lane before this attempt, by cause."""
        waits = {} if item.held is None else dict(item.held.waits)
        due_ms, came_ms = item.envelope.due_ms, item.delivery.appended_ms
        if due_ms is not None and due_ms > came_ms:
            came_ms = due_ms
        if item.key_id is not None:
            clock = self._clock
            queued_s = clock.monotonic() - item.ready_at
            ready_ms = clock.epoch_ms() - int(queued_s * 1_000)
            order_ms = min(ready_ms, started_ms) - item.read_ms - sum(waits.values())
            if order_ms > 0:
                waits[WaitCause.ORDER.value] = order_ms
        queue_ms = started_ms - came_ms - sum(waits.values())
        if queue_ms > 0:
            waits[WaitCause.QUEUE.value] = queue_ms
        return waits

    def _lane(self, lane: Lane) -> tuple[str, str]:
        names = self._names.get(lane)
        if names is None:
            names = self._names[lane] = lane.queue, lane.priority.value
        return names


def _wait_cause(item: Item, step: NextStep) -> WaitCause:
    """What a job waits for that goes on later."""
    if step.error is not None:
        return WaitCause.RETRY
    if step.misfit is not None:
        return WaitCause.DEPLOY
    if step.is_put_off:
        return WaitCause.WINDOW
    # It was sent back to the log, since it waited for a dependency or a claim.
    return WaitCause.CLAIM if item.held is None else WaitCause(item.held.cause)


def _is_slow(item: Item) -> bool:
    """Whether its last attempt took half of the time that it may take, or more."""
    if item.job is None or item.ran_s is None:
        return False
    return item.ran_s * 2_000 >= item.job.spec.timeout_ms


def _causes(step: NextStep) -> dict[str, str]:
    """Why a job failed, ended or waits, in bounded texts."""
    found: dict[str, str] = {}
    refusal = step.refusal or step.misfit
    if refusal is not None:
        found["reason"] = refusal.reason.value
        found["detail"] = shown_text(refusal.detail)
    elif step.cause:
        found["reason"] = shown_text(step.cause)
    if step.error is not None:
        found["error"] = step.error.type
        found["message"] = shown_text(step.error.message)
        found["fingerprint"] = step.error.fingerprint
    return found
