"""Counts and logs what happens to jobs.

A job that succeeds is counted and, at debug level, logged. Every other end writes one
line with the fields that identify the job. Where one cause repeats, some lines are
written and the rest is counted (`shifter.telemetry.log`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from shifter.errors import StoreError
from shifter.fleet.protection import Change, LoggingObserver
from shifter.fleet.shared_state import state_word
from shifter.model.claim import JobState
from shifter.model.lane import Lane
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.ports import Clock, LostRange
from shifter.telemetry import Event, Log, Metrics
from shifter.telemetry.log import LimitedLog
from shifter.telemetry.metric import Counter as Count, Histogram
from shifter.work.attempt import Attempt
from shifter.work.item import Item, ItemRefusal, Unreadable
from shifter.work.next_step import NextStep

_RATE_WINDOW_S = 5.0


class _LaneMetrics(NamedTuple):
    """The series of one lane, looked up once."""

    attempts: Count
    wait: Histogram
    duration: Histogram
    done: Count
    waits: list[float]
    durations: list[float]


class JobObserver:
    """Counts and logs for one worker process.

    Args:
        metrics: Where counts go.
        clock: For waits and rates.
        worker: This worker's id, bound to each line.
    """

    def __init__(self, metrics: Metrics, clock: Clock, *, worker: str) -> None:
        self.metrics, self._clock = metrics, clock
        self._log = Log(worker=worker)
        self._limited = LimitedLog(self._log)
        self._misfits: set[str] = set()
        self._fleet_log = LoggingObserver(self._log)
        self._logs_done = self._log.is_on(logging.DEBUG)
        self._lanes: dict[Lane, _LaneMetrics] = {}
        self._ended: Counter[str] = Counter()
        self._before: dict[str, int] = {}
        self._since: float = clock.monotonic()
        self._rates: dict[str, float] = {}
        self._claims_logged_at: float = -_RATE_WINDOW_S

    def started(self, items: Sequence[Item], now_ms: int) -> None:
        """Attempts start."""
        for item in items:
            series = self._series(item.lane)
            series.attempts.inc()
            # The time-shift of a job counts once.
            if item.attempt == 1:
                since_ms = item.envelope.created_ms
                if since_ms is None:
                    since_ms = item.delivery.appended_ms
                series.waits.append((now_ms - since_ms) / 1_000)

    def ran(self, attempt: Attempt, now: float) -> None:
        """An attempt ended."""
        series = self._series(attempt.item.lane)
        series.durations.append(now - attempt.started_at)

    def stuck(self, attempt: Attempt) -> None:
        """An attempt was stopped and does not end."""
        facts = _facts(attempt.item)
        why = "" if attempt.stopped is None else attempt.stopped.name.lower()
        self._log.error(Event.ATTEMPT_STUCK, stopped_for=why, **facts)

    def done(self, items: Sequence[Item]) -> None:
        """Jobs succeeded."""
        for lane, count in Counter([item.lane for item in items]).items():
            self._series(lane).done.inc(count)
            self._ended[lane.name] += count
        if self._logs_done:
            for item in items:
                self._log.debug(Event.JOB_ENDED, outcome="done", **_facts(item))

    def ended(self, step: NextStep) -> None:
        """A delivery ended otherwise, or its job goes on in place."""
        lane = step.entry.lane
        if step.settles:
            self._ended[lane.name] += 1
        if not step.is_copy:
            self._ended_otherwise(step, lane)

    def _ended_otherwise(self, step: NextStep, lane: Lane) -> None:
        if isinstance(step.entry, Item) and step.misfit is not None:
            self._misfit(step.entry, step.misfit)
            return
        facts = {**_facts(step.entry), **_failure(step)}
        if step.state is JobState.WAITING:
            self._write(logging.INFO, Event.JOB_RETRIED, facts)
            return
        outcome = step.state.value
        self.metrics.jobs.of(lane.queue, lane.priority.value, outcome).inc()
        if step.refusal is None:
            facts["outcome"] = outcome
            self._write(logging.WARNING, Event.JOB_ENDED, facts)
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
        known = self._misfits
        if job not in known and len(known) >= _MISFITS_MOST:
            job = "other"  # any producer can invent names
        known.add(job)
        self.metrics.misfits.of(lane.queue, job, why.reason.value).inc()

    def _write(self, level: int, event: Event, facts: dict[str, Any]) -> None:
        """Write a line about an event that may repeat for every record of a lane."""
        now = self._clock.monotonic()
        self._limited.write(level, event, facts, by=_CAUSES, now=now)

    def _series(self, lane: Lane) -> _LaneMetrics:
        series = self._lanes.get(lane)
        if series is None:
            labels = (lane.queue, lane.priority.value)
            series = self._lanes[lane] = _LaneMetrics(
                self.metrics.attempts.of(*labels),
                self.metrics.job_wait.of(*labels),
                self.metrics.job_duration.of(*labels),
                self.metrics.jobs.of(*labels, JobState.DONE.value),
                [],
                [],
            )
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
            series.wait.observe_many(series.waits)
            series.duration.observe_many(series.durations)
            series.waits.clear()
            series.durations.clear()
        self._limited.write_left_out(self._clock.monotonic())

    def close(self) -> None:
        """Write the lines that are still held back, at the end of the worker."""
        self._limited.close()

    def rates(self, now: float) -> dict[str, float]:
        """Deliveries ended a second, per lane, over the last few seconds."""
        passed_s = now - self._since
        if passed_s >= _RATE_WINDOW_S or not self._rates:
            self._rates = {
                lane: (count - self._before.get(lane, 0)) / max(passed_s, 1.0)
                for lane, count in self._ended.items()
            }
            self._before, self._since = dict(self._ended), now
        return dict(self._rates)

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
        name, word = change.dependency.name, state_word(change.state)
        self.metrics.circuit_changes.of(name, change.scope, word).inc()
        for known in _CIRCUIT_WORDS:
            self.metrics.circuit_state.of(name, change.scope, known).set(
                int(known == word)
            )
        self._fleet_log.circuit_changed(change)

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


_MISFITS_MOST = 50

_CAUSES = ("lane", "outcome", "reason", "fingerprint")
"""Fields whose values distinguish the causes of a line."""

_CIRCUIT_WORDS = ("closed", "half_open", "open")


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


def _failure(step: NextStep) -> dict[str, Any]:
    failure: dict[str, Any] = {}
    if step.refusal is not None:
        failure["reason"] = step.refusal.reason.value
        failure["detail"] = step.refusal.detail
    if step.error is not None:
        failure["error"] = step.error.type
        failure["message"] = step.error.message
        failure["fingerprint"] = step.error.fingerprint
    return failure
