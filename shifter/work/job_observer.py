"""Counts and logs what happens to jobs.

The end of a job writes one line, with the fields that identify the job, its outcome,
attempt, wait, duration and cause. Where one cause repeats, some lines are written and
the rest is counted (`shifter.telemetry.log`). Successes are one kind, however many
lanes there are, and are counted a batch at a time: at 35,000 jobs/s there is no time to
look at each.
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from shifter.errors import StoreError
from shifter.fleet.changes import Change, LoggingObserver
from shifter.fleet.shared_state import state_word
from shifter.jobs.request_scope import trace_id_of
from shifter.model.claim import JobState
from shifter.model.lane import Lane
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.ports import Clock, LostRange
from shifter.telemetry import Event, Log, WorkerMetrics
from shifter.telemetry.log import LimitedLog
from shifter.telemetry.series import LabelValues
from shifter.work.attempt import Attempt
from shifter.work.claim_counts import ClaimCounts
from shifter.work.item import Item, ItemRefusal, Unreadable
from shifter.work.job_events import WorkerEvents
from shifter.work.lane_series import LaneSeries
from shifter.work.next_step import NextStep, cause_of

_RATE_WINDOW_S = 5.0


class JobObserver:
    """Counts and logs for one worker process.

    Args:
        metrics: Where counts go.
        clock: For waits and rates.
        worker: This worker's id, bound to each line.
        log_done: Share of the successes whose line is written, 0 to 1; ``None`` for as
            many as the limit of lines of one kind allows.
        events: Records what happens to jobs; ``None`` records nothing.

    Attributes:
        metrics: The same ones.
        events: The same ones.
        claims: Counts what the claim store answers.
        rates_at: When `rates` measured last, monotonic seconds.
        start_up_ms: Milliseconds from this object's making to the start of the first
            job; ``None`` before it, and where that job came later than this object.
        on_circuit: Called with each change of a circuit.
    """

    def __init__(
        self,
        metrics: WorkerMetrics,
        clock: Clock,
        *,
        worker: str,
        log_done: float | None = None,
        events: WorkerEvents | None = None,
    ) -> None:
        self.metrics, self._clock, self.events = metrics, clock, events
        self._log = Log(worker=worker)
        self._limited = LimitedLog(self._log)
        # Any producer can invent names.
        self._misfits = LabelValues(_MISFITS_MOST)
        self._fleet_log = LoggingObserver(self._log)
        # Asked once: a batch may be a single job.
        self._logs_each = self._log.is_on(logging.DEBUG)
        self._logs_done = self._log.is_on(logging.INFO) and log_done != 0
        self._log_done = log_done
        self._lanes: dict[Lane, LaneSeries] = {}
        self._ran_lane: Lane | None = None
        self._durations: list[float] = []
        self._ended: Counter[str] = Counter()
        self._before: dict[str, int] = {}
        self.rates_at: float = clock.monotonic()
        self._rates: dict[str, float] = {}
        self._made_ms = clock.epoch_ms()
        self._has_started = False
        self.start_up_ms: int | None = None
        self._claims_logged_at: float = -_RATE_WINDOW_S
        self.claims = ClaimCounts(metrics)
        self.on_circuit: Callable[[Change], None] = _ignore

    def started(self, items: Sequence[Item], now_ms: int) -> None:
        """Attempts start."""
        if items and not self._has_started:
            self._has_started = True
            # A job that came later says nothing: the worker waited for it.
            if min(item.delivery.appended_ms for item in items) <= self._made_ms:
                self.start_up_ms = max(0, now_ms - self._made_ms)
        for lane, run in groupby(items, _LANE_OF):
            self._started(self._series(lane), list(run), now_ms)

    def _started(self, series: LaneSeries, items: Sequence[Item], now_ms: int) -> None:
        series.attempts.inc(len(items))
        for item in items:
            item.started_ms = now_ms
            if item.held is not None:
                item.held.end(now_ms)
            # The time-shift of a job counts once.
            if item.attempt == 1:
                series.waits.append((now_ms - item.accepted_ms) / 1_000)
                if item.envelope.replay_of is not None:
                    self.metrics.replays.of(item.lane.queue).inc()

    def ran(self, attempt: Attempt, now: float) -> None:
        """An attempt ended."""
        item = attempt.item
        item.ran_s = ran_s = now - attempt.started_at
        # Jobs come in runs of one lane, and hashing a lane takes 0.1 us.
        if item.lane is not self._ran_lane:
            self._ran_lane = item.lane
            self._durations = self._series(item.lane).durations
        self._durations.append(ran_s)

    def waits(self, item: Item, by: Protection) -> None:
        """An item waits for its dependency."""
        if self.events is not None:
            self.events.held(item, by)

    def stuck(self, attempt: Attempt) -> None:
        """An attempt was stopped and does not end."""
        facts = _facts(attempt.item)
        why = "" if attempt.stopped is None else attempt.stopped.name.lower()
        self._log.error(Event.ATTEMPT_STUCK, stopped_for=why, **facts)

    def done(self, items: Sequence[Item]) -> None:
        """Jobs succeeded."""
        for lane, run in groupby(items, _LANE_OF):
            count = len(list(run))
            self._series(lane).done.inc(count)
            self._ended[lane.name] += count
        if self.events is not None:
            self.events.done(items)
        for item in items:
            if item.envelope.deadline_ms is not None:
                self._ended_before(item, item.envelope.deadline_ms)
        if self._logs_each:
            self._write_each(items)
        elif self._logs_done:
            for item in self._chosen(items):
                self._log.info(Event.JOB_ENDED, **self._end(item, _DONE))

    def _ended_before(self, item: Item, deadline_ms: int) -> None:
        margin_s = (deadline_ms - self._clock.epoch_ms()) / 1_000
        self._series(item.lane).margins.append(margin_s)

    def _chosen(self, items: Sequence[Item]) -> Iterable[Item]:
        """Those of some jobs that succeeded whose lines are written."""
        share = self._log_done
        if share is not None:
            return [one for one in items if _is_sampled(one.envelope.id, share)]
        now, count = self._clock.monotonic(), len(items)
        return items[
            : self._limited.take(
                logging.INFO, Event.JOB_ENDED, _DONE, now=now, count=count
            )
        ]

    def _write_each(self, items: Sequence[Item]) -> None:
        """Write all lines of jobs that succeeded: the sampled ones as information."""
        share = self._log_done or 0.0
        for item in items:
            is_sampled = _is_sampled(item.envelope.id, share)
            level = logging.INFO if is_sampled else logging.DEBUG
            self._log.write(level, Event.JOB_ENDED, **self._end(item, _DONE))

    def _end(self, entry: Item | Unreadable, facts: dict[str, Any]) -> dict[str, Any]:
        """The fields of the line about the end of a job."""
        found = {**_facts(entry), **facts}
        if not isinstance(entry, Item):
            return found
        started_ms = entry.started_ms
        until_ms = self._clock.epoch_ms() if started_ms is None else started_ms
        found["wait_s"] = max(0, until_ms - entry.accepted_ms) / 1_000
        if entry.ran_s is not None:
            found["duration_s"] = round(entry.ran_s, 6)
        trace_id = trace_id_of(entry.read.traceparent)
        if entry.trace_id is not None:
            trace_id = f"{entry.trace_id:032x}"
        return found if trace_id is None else {**found, "trace_id": trace_id}

    def ended(self, step: NextStep) -> None:
        """A delivery ended otherwise, or its job goes on in place."""
        lane = step.entry.lane
        if step.is_moved:
            self.metrics.moved.of(lane.queue, lane.priority.value).inc()
        elif step.settles:
            self._ended[lane.name] += 1
        if not step.is_copy and not step.is_moved:
            self._ended_otherwise(step, lane)
            if self.events is not None:
                self.events.ended(step)

    def _ended_otherwise(self, step: NextStep, lane: Lane) -> None:
        if isinstance(step.entry, Item) and step.misfit is not None:
            self._misfit(step.entry, step.misfit)
            return
        failure = _failure(step)
        if step.state is JobState.WAITING:
            if step.retry:
                labels = lane.queue, lane.priority.value, step.retry
                self.metrics.retries.of(*labels).inc()
            facts = {**_facts(step.entry), **failure}
            self._write(logging.INFO, Event.JOB_RETRIED, facts)
            return
        outcome = step.state.value
        self.metrics.jobs.of(lane.queue, lane.priority.value, outcome).inc()
        if isinstance(step.entry, Item):
            deadline_ms = step.entry.envelope.deadline_ms
            if deadline_ms is not None:
                self._ended_before(step.entry, deadline_ms)
        end = {"outcome": outcome, "cause": cause_of(step), **failure}
        facts = self._end(step.entry, end)
        if step.refusal is None:
            level = logging.INFO if step.state in _INTENDED else logging.WARNING
            self._write(level, Event.JOB_ENDED, facts)
            return
        self.metrics.dead_letters.of(lane.queue, step.refusal.reason.value).inc()
        self._write(logging.WARNING, Event.JOB_DEAD_LETTERED, facts)

    def _misfit(self, item: Item, why: ItemRefusal) -> None:
        """A job waits for a worker that has its type: one line for all of the type."""
        lane, job = item.lane, item.envelope.type
        facts = {"lane": lane.name, "job": job, "reason": why.reason.value}
        now = self._clock.monotonic()
        self._limited.write(
            logging.WARNING,
            Event.JOB_MISFIT,
            {**facts, "detail": why.detail, "job_id": item.envelope.id},
            by=tuple(facts),
            now=now,
            most=1,
        )
        name = self._misfits.of(job)
        self.metrics.misfits.of(lane.queue, name, why.reason.value).inc()

    def _write(self, level: int, event: Event, facts: dict[str, Any]) -> None:
        """Write a line about an event that may repeat for every record of a lane."""
        now = self._clock.monotonic()
        self._limited.write(level, event, facts, by=_CAUSES, now=now)

    def _series(self, lane: Lane) -> LaneSeries:
        series = self._lanes.get(lane)
        if series is None:
            series = self._lanes[lane] = LaneSeries(self.metrics, lane)
        return series

    def running(self, attempts: Mapping[str, int], waiting_bytes: int) -> None:
        """How many attempts run now, per lane's topic, and what waits."""
        self.metrics.waiting_bytes.of().set(waiting_bytes)
        for lane in self._lanes:
            gauge = self.metrics.inflight.of(lane.queue, lane.priority.value)
            gauge.set(attempts.get(lane.name, 0))

    def fold(self) -> None:
        """Add the values gathered since the last call to the histograms."""
        for series in self._lanes.values():
            series.fold()
        self.claims.fold()
        self._limited.write_left_out(self._clock.monotonic())

    def close(self) -> None:
        """Write the lines that are still held back, at the end of the worker."""
        self._limited.close()

    def rates(self, now: float) -> dict[str, float]:
        """Deliveries ended a second, per lane, over the last few seconds."""
        passed_s = now - self.rates_at
        if passed_s >= _RATE_WINDOW_S or not self._rates:
            self._rates = {
                lane: (count - self._before.get(lane, 0)) / max(passed_s, 1.0)
                for lane, count in self._ended.items()
            }
            self._before, self.rates_at = dict(self._ended), now
        return dict(self._rates)

    @property
    def ended_total(self) -> int:
        """Deliveries ended so far."""
        return self._ended.total()

    def fence_lost(self, item: Item) -> None:
        """Another worker was granted the job while it ran here."""
        facts = {"job_id": item.envelope.id, "lane": item.lane.name}
        self._write(logging.WARNING, Event.CLAIM_LOST, facts)

    def headers_dropped(self, item: Item) -> None:
        """Headers of the user did not fit; the job runs without them."""
        count = item.read.dropped
        self.metrics.headers_dropped.of(item.lane.queue).inc(count)
        facts = {"lane": item.lane.name, "job_id": item.envelope.id, "count": count}
        self._write(logging.WARNING, Event.HEADERS_DROPPED, facts)

    def hand_over_failed(self, step: NextStep, detail: str) -> None:
        """The log did not take the next record of a job; it is appended again later."""
        facts = {**_facts(step.entry), "detail": detail}
        self._write(logging.WARNING, Event.APPEND_REFUSED, facts)

    def lost(self, lost: LostRange) -> None:
        """The log deleted records before a worker read them."""
        self.metrics.records_lost.of(lost.topic).inc(lost.end - lost.first)
        self._log.error(Event.RECORDS_LOST, **lost._asdict())

    def claims_failed(self, error: StoreError) -> None:
        """A call to the claim store failed; logged at most every few seconds."""
        self.metrics.claim_store_errors.of().inc()
        now = self._clock.monotonic()
        if now >= self._claims_logged_at + _RATE_WINDOW_S:
            self._claims_logged_at = now
            self._log.warning(Event.CLAIMS_UNAVAILABLE, detail=str(error))

    def claims_recovered(self) -> None:
        """The claim store takes claims again."""
        self._claims_logged_at = -_RATE_WINDOW_S
        self._log.info(Event.CLAIMS_RECOVERED)

    def circuit_changed(self, change: Change) -> None:
        """The circuit of a dependency was opened, probed or closed."""
        word = state_word(change.state)
        name = change.dependency.name
        self.metrics.circuit_changed(name, change.scope, word, change.kind)
        self._fleet_log.circuit_changed(change)
        self.on_circuit(change)

    def found_strange(self, count: int) -> None:
        """The state store held values that this package does not write."""
        self.metrics.fleet_strange.of().inc(count)
        self._fleet_log.found_strange(count)

    def held_back(self, dependency: Dependency, by: Protection) -> None:
        """An item was not started since its dependency refused the call."""
        self.metrics.held_back.of(dependency.name, by.value).inc()

    def worker(self, event: Event, **facts: object) -> None:
        """An event of the worker's own lifecycle."""
        self._log.info(event, **facts)

    def abandoned(self, pending: int) -> None:
        """Ends were not recorded in time; their jobs are delivered again."""
        self._log.error(Event.RECORDS_UNANSWERED, pending=pending)


def _ignore(_: Change) -> None:
    """Do nothing."""


_MISFITS_MOST = 50

_DONE: Final = {"outcome": JobState.DONE.value}
_INTENDED: Final = (JobState.CANCELLED, JobState.DISCARDED)
"""Ends that a person or the handler asked for."""

_LANE_OF: Final = attrgetter("lane")
_CAUSES = ("lane", "outcome", "reason", "fingerprint")
"""Fields whose values distinguish the causes of a line."""


def _facts(entry: Item | Unreadable) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "lane": entry.lane.name,
        "partition": entry.delivery.partition,
        "offset": entry.delivery.offset,
    }
    if isinstance(entry, Item):
        facts |= {
            "job_id": entry.envelope.id,
            "job": entry.envelope.type,
            "attempt": entry.attempt,
        }
    return facts


def _is_sampled(job_id: str, share: float) -> bool:
    """Whether a job belongs to a share of all jobs: the same in each process."""
    return zlib.crc32(job_id.encode()) < share * (1 << 32)


def _failure(step: NextStep) -> dict[str, Any]:
    failure: dict[str, Any] = {}
    if step.refusal is not None:
        failure["reason"] = step.refusal.reason.value
        failure["detail"] = step.refusal.detail
    if step.error is not None:
        failure["error"] = step.error.type
        failure["message"] = step.error.message
        failure["fingerprint"] = step.error.fingerprint
        failure["stack"] = step.error.stack.splitlines()
    return failure
