"""The options of one call beyond its arguments, checked once and reusable.

`CallOptions` is what a user may give; `CallPlan` is what a record needs, worked out
ahead of the call, so that the hot path of ``defer`` does no checking of its own.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NamedTuple

from shifter.errors import ConfigError
from shifter.fleet.hours import Hours
from shifter.jobs.request_scope import ambient, left_ms, nearer
from shifter.model.job import Isolation, JobSpec, check_job_id
from shifter.model.lane import Lane, Priority, check_priority
from shifter.model.time import Duration, EpochMs, duration_ms
from shifter.policy.delivery.delay import MAX_DELAY_MS
from shifter.ports import Clock
from shifter.wire.envelope import EnvelopeV1

_MAX_KEY = 255


class CallOptions(NamedTuple):
    """Options of one call; ``None`` leaves the job's own setting.

    Attributes:
        priority: Which lane of the job's queue.
        delay: Not before this much later; excludes ``due_at``.
        due_at: Not before this instant; a ``datetime`` with a time zone.
        deadline: From submission on, after which the job has no value.
        key: Jobs of one key and lane run one after another, in order.
        idempotency_key: Jobs of one type and key take effect once.
        job_id: A UUID of the caller's own, to make submitting again safe.
    """

    priority: Priority | None = None
    delay: Duration | None = None
    due_at: datetime | None = None
    deadline: Duration | None = None
    key: str | None = None
    idempotency_key: str | None = None
    job_id: str | uuid.UUID | None = None


class CallPlan(NamedTuple):
    """A job and its options as the wire wants them.

    Attributes:
        lane: Name of the lane.
        delay_ms: Relative delay, or ``None``.
        due_ms: Absolute due time, or ``None``.
        deadline_ms: Relative deadline, or ``None``.
        runs_here: Whether the process that submits it may run it: an ordering key
            keeps its order in the lane, an idempotency key or a given id takes effect
            once by a claim, and neither is waited for here.
        opens_ms: When its hours begin, which the log waits for; ``None`` for at once.
        is_retry: Of a call from outside this process, whether it was made before:
            a first one earns a part of a retry, a retry is charged to the budget.
            ``None`` for what is no such call.
    """

    spec: JobSpec
    lane: str
    priority: Priority
    delay_ms: int | None
    due_ms: int | None
    deadline_ms: int | None
    key: str | None
    key_bytes: bytes | None
    idempotency_key: str | None
    job_id: str | None
    runs_here: bool
    opens_ms: int | None = None
    is_retry: bool | None = None

    @property
    def namespace(self) -> str:
        """First part of the lane's name."""
        return self.lane.split(".", 1)[0]


def plan_call(namespace: str, spec: JobSpec, options: CallOptions) -> CallPlan:
    """Check the options of a call against its job.

    Args:
        namespace: The app's namespace.
        spec: The job's declaration.
        options: The options of the call.

    Raises:
        ConfigError: An option is malformed, or two of them contradict each other.
    """
    priority = spec.priority
    if options.priority is not None:
        priority = check_priority(options.priority)
    deadline_ms = spec.deadline_ms
    if options.deadline is not None:
        deadline_ms = duration_ms("deadline", options.deadline, minimum_ms=1)
    delay_ms = _delay_ms(options, deadline_ms)
    key = _bounded("key", options.key)
    named = (options.key, options.idempotency_key, options.job_id)
    return CallPlan(
        spec=spec,
        lane=Lane(namespace, spec.queue, priority).name,
        priority=priority,
        delay_ms=delay_ms,
        due_ms=_due_ms(options.due_at),
        deadline_ms=deadline_ms,
        key=key,
        key_bytes=None if key is None else key.encode(),
        idempotency_key=_bounded("idempotency_key", options.idempotency_key),
        job_id=_given(options.job_id),
        runs_here=spec.inline
        and spec.isolation is not Isolation.PROCESS
        and named == (None, None, None),
    )


def as_of_now(plan: CallPlan, clock: Clock, hours: Hours) -> CallPlan:
    """Complete the plan with what depends on the current time.

    The deadline is the smaller of its own and what is left to the request under way. If
    the hours of the job have not begun when the job is due, it is put on its lane when
    they begin.

    Args:
        plan: The plan of the call, which may be reused.
        clock: The process's clock.
        hours: Windows of the lanes, and the operator's overrides.
    """
    if ambient().deadline_ms is not None:
        left = nearer(plan.deadline_ms, left_ms(clock.epoch_ms()))
        plan = plan._replace(deadline_ms=left)
    return at_an_opening(plan, clock, hours)


def at_an_opening(plan: CallPlan, clock: Clock, hours: Hours) -> CallPlan:
    """The plan, with the instant at which the hours of its job begin.

    Args:
        plan: The plan of the call.
        clock: The process's clock.
        hours: Windows of the lanes, and the operator's overrides.

    Returns:
        The same object if the job may start when it is due.
    """
    spec = plan.spec
    if not spec.windows and not hours.is_limiting:
        return plan
    now = clock.epoch_ms()
    own_ms = plan.due_ms if plan.delay_ms is None else now + plan.delay_ms
    due_ms = now if own_ms is None else EpochMs(max(now, own_ms))
    lane = Lane(plan.namespace, spec.queue, plan.priority)
    opening_ms = hours.opening_ms(spec, lane, due_ms)
    return plan if opening_ms == due_ms else plan._replace(opens_ms=opening_ms)


def envelope_of(plan: CallPlan, job_id: str, now: EpochMs) -> EnvelopeV1:
    """The envelope of a job of this plan.

    Args:
        plan: The job and its options.
        job_id: The id of the job.
        now: When it is submitted.

    Raises:
        ConfigError: It is due later than the log can delay it.
    """
    if plan.due_ms is not None and plan.due_ms > now + MAX_DELAY_MS:
        # A worker would refuse the record: the log could not delay it for so long.
        raise ConfigError("due_at", plan.due_ms, "the longest delay is 30 days")
    spec = plan.spec
    return EnvelopeV1(
        v=1,
        id=job_id,
        type=spec.name,
        queue=spec.queue,
        priority=plan.priority,
        created_ms=now,
        deadline_ms=None if plan.deadline_ms is None else now + plan.deadline_ms,
        due_ms=plan.due_ms if plan.delay_ms is None else now + plan.delay_ms,
        key=plan.key,
        idempotency_key=plan.idempotency_key,
    )


def _delay_ms(options: CallOptions, deadline_ms: int | None) -> int | None:
    if options.delay is None:
        return None
    if options.due_at is not None:
        raise ConfigError("delay", options.delay, "give either delay or due_at")
    delay_ms = duration_ms("delay", options.delay)
    if delay_ms > MAX_DELAY_MS:
        raise ConfigError("delay", options.delay, "the longest delay is 30 days")
    if deadline_ms is not None and delay_ms >= deadline_ms:
        want = f"must be shorter than the deadline ({deadline_ms / 1_000:g} s)"
        raise ConfigError("delay", options.delay, want)
    return delay_ms


def _due_ms(due_at: object) -> int | None:
    if due_at is None:
        return None
    if not isinstance(due_at, datetime) or due_at.tzinfo is None:
        raise ConfigError("due_at", due_at, "use a datetime with a time zone")
    due_ms = -int(-due_at.timestamp() * 1_000 // 1)
    if due_ms < 0:
        raise ConfigError("due_at", due_at, "must lie after 1970")
    return due_ms


def _bounded(field: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_KEY:
        raise ConfigError(field, value, f"use 1-{_MAX_KEY} characters")
    if not value.isprintable():
        raise ConfigError(field, value, "use printable characters only")
    return value


def _given(job_id: object) -> str | None:
    return None if job_id is None else check_job_id("job_id", job_id)
