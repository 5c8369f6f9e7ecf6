"""Decides what follows an attempt; does nothing itself.

The retry rules are `shifter.policy.delivery.retry`; this module adds facts of a worker:
claims to be updated, keyed jobs that wait in place, records that follow.
"""

from __future__ import annotations

from typing import NamedTuple

from shifter.model.claim import ClaimUpdate, JobState
from shifter.model.job import JobSpec, OnBlock
from shifter.model.reason import Reason
from shifter.model.time import EpochMs
from shifter.policy.delivery.backoff import BackoffPolicy
from shifter.policy.delivery.claim_state import WAITING_KEEP_MS
from shifter.policy.delivery.job_limits import End, is_expired, is_put_off_too_long
from shifter.policy.delivery.retry import (
    RETRY_WORDS,
    DeadLettered,
    Discarded,
    Interrupted,
    Outcome,
    RetryPolicy,
    TryAgain,
    after_attempt,
)
from shifter.ports import Record
from shifter.wire.envelope import MAX_TURNS
from shifter.wire.failure import ErrorFacts
from shifter.work.item import Item, ItemRefusal, Unreadable
from shifter.work.next_record import (
    CUT_DIAGNOSTICS,
    CUT_VALUE,
    dead_letter,
    later_turn,
    moved_record,
    next_turn,
    repair,
)

_KEYED_KEEP_MS = 3_600_000
"""How long the store remembers a waiting job of an idempotency key past its due time.

While it does, other jobs of the key wait: also where the log has lost this one.
"""

_MISFIT_LEAST_MS = 1_000
_MISFIT_MOST_MS = 15_000
"""How long a job waits before it is offered to another worker that may have its type.

The wait is a quarter of what it has waited already, within these bounds: a job is
offered 16 times in the first minute and 72 times in 15 min, which finds one new worker
among 20 with a chance of 97 %.
"""

BUSY_AGAIN_MS = 60_000
"""How long a job claimed elsewhere waits in the log when it would block its lane."""


class NextStep(NamedTuple):
    """One entry on its way out.

    Attributes:
        entry: The item, or a delivery that cannot be read.
        state: What it becomes; ``WAITING`` when it goes on later.
        record: Its successor, if any.
        update: What is written to the claim store; ``None`` without a claim.
        settles: Whether the delivery ends here.
        wait_s: How long it waits in place before it runs again, or ``None``.
        refusal: Reason of a dead letter.
        error: Facts of the failure behind it.
        cause: Why the handler gave its job up, in its own words; empty elsewhere.
        is_put_off: Whether it waits for its execution window.
        retry: Why the job runs again, ``failed``, ``retry_asked`` or ``throttled``;
            empty elsewhere.
        misfit: Why this worker cannot run it, where it waits for one that can.
        is_copy: Whether the job had ended, or gone on, before this record came.
        is_moved: Whether another worker runs it, since this one has no free slot.
        cut: How often the log found its successor too large.
    """

    entry: Item | Unreadable
    state: JobState
    record: Record | None = None
    update: ClaimUpdate | None = None
    settles: bool = True
    wait_s: float | None = None
    refusal: ItemRefusal | None = None
    error: ErrorFacts | None = None
    cause: str = ""
    is_put_off: bool = False
    retry: str = ""
    misfit: ItemRefusal | None = None
    is_copy: bool = False
    is_moved: bool = False
    cut: int = 0


class Moment(NamedTuple):
    """The instant of a decision, and its random draw.

    Attributes:
        now: Wall clock.
        monotonic: Monotonic seconds.
        u: One draw from [0, 1).
    """

    now: EpochMs
    monotonic: float
    u: float


class NextSteps:
    """Decides for one worker what follows an attempt.

    Args:
        worker: The worker's id, written into dead letters.
        grace_ms: How long a job waits for a worker that can run it, >= 0.
    """

    def __init__(self, worker: str, grace_ms: int = 0) -> None:
        self._worker, self._grace_ms = worker, grace_ms
        self._policies: dict[str, RetryPolicy] = {}

    def settled_elsewhere(self, item: Item, state: JobState | None) -> NextStep:
        """Settle an item whose job another worker ended, in ``state`` if known."""
        if state is None:
            return NextStep(item, JobState.DONE, is_copy=True)
        return NextStep(item, state)

    def after(
        self, item: Item, outcome: Outcome, error: ErrorFacts | None, at: Moment
    ) -> NextStep:
        """The step after an attempt that did not succeed.

        Args:
            item: The job.
            outcome: How the attempt ended.
            error: Facts of what was raised, for the dead letter; ``None`` without any.
            at: The instant of the decision, and its draw.
        """
        if item.refusal is not None:
            # A refusal names the cause better than the error of decoding.
            is_bad = item.refusal.reason is Reason.UNDECODABLE_PAYLOAD
            return self.refused(item, item.refusal, None if is_bad else error, at)
        if isinstance(outcome, Interrupted):
            return self.interrupted(item)
        answer = after_attempt(
            self._policy(_spec(item)),
            outcome,
            attempt=item.attempt,
            now=at.now,
            deadline_ms=item.envelope.deadline_ms,
            u=at.u,
        )
        if isinstance(answer, TryAgain):
            step = self._again(item, answer, error, at)
            is_again = step.state is JobState.WAITING
            return step._replace(retry=RETRY_WORDS[type(outcome)]) if is_again else step
        return self._end(item, answer, outcome, error, at)

    def degraded(self, item: Item) -> NextStep:
        """The step after a fallback: the end, and a repair where one is declared."""
        step = succeeded(item)
        return step._replace(record=repair(item)) if _spec(item).repair else step

    def refused(
        self,
        entry: Item | Unreadable,
        refusal: ItemRefusal,
        error: ErrorFacts | None,
        at: Moment,
    ) -> NextStep:
        """A dead letter, unless another worker may be able to run the job.

        Args:
            entry: What was read.
            refusal: Why this worker cannot run it.
            error: Facts of what was raised, for the dead letter; ``None`` without any.
            at: The instant of the decision, and its draw.
        """
        if isinstance(entry, Item) and refusal.is_misfit:
            step = self._elsewhere(entry, refusal, at)
            if step is not None:
                return step
            waited_s = (at.now - (entry.misfit_since_ms or at.now)) / 1_000
            detail = f"{refusal.detail}; waited {waited_s:.0f} s for a worker that does"
            refusal = ItemRefusal(refusal.reason, detail)
        record = dead_letter(entry, refusal, error, now=at.now, worker=self._worker)
        update = _ended(entry, JobState.DEAD) if isinstance(entry, Item) else None
        step = NextStep(entry, JobState.DEAD, record, update)
        return step._replace(refusal=refusal, error=error)

    def _elsewhere(
        self, item: Item, misfit: ItemRefusal, at: Moment
    ) -> NextStep | None:
        """A wait for a worker that can run the job; ``None`` once that took too long.

        The job has not run, so no attempt is charged. It waits on a delay topic, so
        that its lane proceeds; a job with an ordering key waits in its place, so that
        the key keeps its order.
        """
        deadline_ms = item.envelope.deadline_ms
        if is_expired(deadline_ms, at.now):
            return NextStep(
                item, JobState.EXPIRED, update=_ended(item, JobState.EXPIRED)
            )
        if item.misfit_since_ms is None or item.misfit_since_ms > at.now:
            item.misfit_since_ms = at.now
        waited_ms = at.now - item.misfit_since_ms
        if waited_ms >= self._grace_ms:
            return None
        wait_ms = min(max(waited_ms // 4, _MISFIT_LEAST_MS), _MISFIT_MOST_MS)
        # Jittered, so that jobs that came together do not come back together.
        due_ms = at.now + int(wait_ms * (0.75 + at.u / 2))
        if deadline_ms is not None:
            due_ms = min(due_ms, deadline_ms)
        update = _waiting(item, item.turn, item.attempt, due_ms - at.now)
        step = NextStep(item, JobState.WAITING, update=update, misfit=misfit)
        if item.key_id is not None:
            return step._replace(settles=False, wait_s=(due_ms - at.now) / 1_000)
        record = next_turn(
            item,
            attempt=item.attempt,
            turn=item.turn,
            due_ms=due_ms,
            misfit_since_ms=item.misfit_since_ms,
        )
        return step._replace(record=record)

    def cut(self, step: NextStep, at: Moment) -> NextStep:
        """Replace a step whose next record the log found too large.

        A next turn that its lane does not take becomes a dead letter; a dead letter
        gets smaller, so that no record comes back for ever.
        """
        cut = min(step.cut + 1, CUT_VALUE)
        if step.refusal is not None:
            record = dead_letter(
                step.entry,
                step.refusal,
                step.error,
                now=at.now,
                worker=self._worker,
                cut=cut,
            )
            return step._replace(record=record, cut=cut)
        if cut < CUT_DIAGNOSTICS:
            return step._replace(cut=cut)
        refusal = ItemRefusal(
            Reason.TOO_LARGE, "the retry record exceeds the lane's size limit"
        )
        return self.refused(step.entry, refusal, step.error, at)

    def postponed(self, item: Item, due_ms: int) -> NextStep:
        """Send an item back to the log until an instant; no attempt is charged."""
        attempt, turn = item.attempt, item.turn
        record = next_turn(item, attempt=attempt, turn=turn, due_ms=due_ms)
        return NextStep(item, JobState.WAITING, record, given_back(item))

    def moved(self, item: Item, partition: int) -> NextStep:
        """Send an unclaimed item to the worker that reads another partition."""
        record = moved_record(item, partition)
        return NextStep(item, JobState.WAITING, record, is_moved=True)

    def put_off(self, item: Item, due_ms: int) -> NextStep:
        """Send an item back until its execution window opens; its due time is kept."""
        record, update = later_turn(item, due_ms), given_back(item)
        return NextStep(item, JobState.WAITING, record, update, is_put_off=True)

    def interrupted(self, item: Item) -> NextStep:
        """Leave an item unsettled, so that the log delivers it to another worker."""
        return NextStep(item, JobState.WAITING, None, given_back(item), settles=False)

    def _end(
        self,
        item: Item,
        answer: End,
        outcome: Outcome,
        error: ErrorFacts | None,
        at: Moment,
    ) -> NextStep:
        if answer.state is not JobState.DEAD:
            update = _ended(item, answer.state)
            cause = outcome.reason if isinstance(outcome, Discarded) else ""
            return NextStep(item, answer.state, update=update, error=error, cause=cause)
        detail = outcome.reason if isinstance(outcome, DeadLettered) else ""
        reason = Reason.ATTEMPTS_EXHAUSTED if answer.reason is None else answer.reason
        return self.refused(item, ItemRefusal(reason, detail), error, at)

    def _again(
        self, item: Item, answer: TryAgain, error: ErrorFacts | None, at: Moment
    ) -> NextStep:
        if answer.charged:
            item.put_off_since_ms = None
            if item.first_failed_ms is None:
                item.first_failed_ms = at.now
        elif (refusal := _put_off(item, at)) is not None:
            return self.refused(item, refusal, error, at)
        if item.turn >= MAX_TURNS:
            detail = f"it was handed over {item.turn} times"
            refusal = ItemRefusal(Reason.PUT_OFF_TOO_LONG, detail)
            return self.refused(item, refusal, error, at)
        if item.key_id is not None:
            return self._in_place(item, answer, error, at)
        attempt, turn = answer.attempt, item.turn + 1
        record = next_turn(item, attempt=attempt, turn=turn, due_ms=answer.due_ms)
        wait_ms = answer.due_ms - at.now
        update = _waiting(item, item.turn + 1, answer.attempt, wait_ms)
        return NextStep(item, JobState.WAITING, record, update, error=error)

    def _in_place(
        self, item: Item, answer: TryAgain, error: ErrorFacts | None, at: Moment
    ) -> NextStep:
        if item.blocked_since is None:
            item.blocked_since = at.monotonic
        wait_s = max(0, answer.due_ms - at.now) / 1_000
        spec = _spec(item)
        blocked_s = at.monotonic - item.blocked_since + wait_s
        if blocked_s * 1_000 > spec.block_ms and spec.on_block is OnBlock.DEAD_LETTER:
            detail = f"its key was held up for {blocked_s:.0f} s"
            refusal = ItemRefusal(Reason.BLOCKED_TOO_LONG, detail)
            return self.refused(item, refusal, error, at)
        item.attempt = answer.attempt
        update = _waiting(item, item.turn, answer.attempt, int(wait_s * 1_000))
        step = NextStep(item, JobState.WAITING, None, update, error=error)
        return step._replace(settles=False, wait_s=wait_s)

    def _policy(self, spec: JobSpec) -> RetryPolicy:
        policy = self._policies.get(spec.name)
        if policy is None:
            backoff = BackoffPolicy(
                base_ms=spec.backoff_base_ms, cap_ms=spec.backoff_cap_ms
            )
            policy = RetryPolicy(max_attempts=spec.attempts, backoff=backoff)
            self._policies[spec.name] = policy
        return policy


def _put_off(item: Item, at: Moment) -> ItemRefusal | None:
    """Count that a job is put off; returns the refusal once that happened too often."""
    item.put_off += 1
    if item.put_off_since_ms is None or item.put_off_since_ms > at.now:
        item.put_off_since_ms = at.now
    waited_ms = at.now - item.put_off_since_ms
    if not is_put_off_too_long(item.put_off, waited_ms):
        return None
    detail = f"put off {item.put_off} times in {waited_ms / 1_000:.0f} s, uncharged"
    return ItemRefusal(Reason.PUT_OFF_TOO_LONG, detail)


def _spec(item: Item) -> JobSpec:
    return JobSpec(name=item.envelope.type) if item.job is None else item.job.spec


def cause_of(step: NextStep) -> str:
    """Why a job ended without a success, in one word or in the handler's own."""
    if step.refusal is not None:
        return step.refusal.reason.value
    if step.cause:
        return step.cause
    return step.state.value if step.error is None else step.error.type


def succeeded(item: Item) -> NextStep:
    """The step after a success."""
    return NextStep(item, JobState.DONE, None, _ended(item, JobState.DONE))


def _ended(item: Item, state: JobState) -> ClaimUpdate | None:
    return ended_update(item, state) if item.fence else None


def ended_update(item: Item, state: JobState) -> ClaimUpdate:
    """The claim update of a job that has ended."""
    spec = _spec(item)
    keep_ms = spec.keep_status_ms
    if item.envelope.idempotency_key is not None:
        keep_ms = max(keep_ms, spec.dedup_ms)
    return ClaimUpdate(
        item.identity, item.fence, state, item.turn, item.attempt, keep_ms
    )


def given_back(item: Item) -> ClaimUpdate | None:
    """The update that lets another worker run the same turn, uncharged."""
    return _waiting(item, item.turn, item.attempt, 0)


def _waiting(item: Item, turn: int, attempt: int, wait_ms: int) -> ClaimUpdate | None:
    if not item.fence:
        return None
    is_keyed = item.identity != item.envelope.id
    keep_ms = max(0, wait_ms) + (_KEYED_KEEP_MS if is_keyed else WAITING_KEEP_MS)
    return ClaimUpdate(
        item.identity, item.fence, JobState.WAITING, turn, attempt, keep_ms
    )
