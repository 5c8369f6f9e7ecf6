"""Counts what a service does: what it answers, appends, and calls.

Every thread of the service writes to `ServiceObserver`. A note is one append to a list,
which threads may make at the same time; notes are counted together, under a lock. What
has no events, such as the spool and the circuits, is read when the metrics are.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

from shifter.errors import StoreError
from shifter.fleet.changes import Change, LoggingObserver
from shifter.fleet.readings import read_fleet, show_fleet
from shifter.fleet.replica import FleetReplica
from shifter.fleet.service_reports import ServiceReport
from shifter.fleet.shared_state import state_word
from shifter.model.lane import Priority, parse_lane
from shifter.model.reason import Reason
from shifter.policy.protection.dependency import Dependency, Protection
from shifter.ports import (
    APPENDED,
    AppendAnswer,
    Appended,
    Clock,
    Refused,
)
from shifter.produce.recent_answers import AnswerCounts
from shifter.runtime.forking import renew_in_child
from shifter.telemetry import Log, ServiceMetrics, Snapshot
from shifter.telemetry.series import LabelValues

_JOBS_MOST: Final = 100
"""Job types that are counted by name: each has up to 16 series of its own or so, and a
metric keeps 1,000."""

_FOLD_AT: Final = 1_000
"""Answers, or appends, that are noted one by one before they are counted together:
noting one takes a third of the time that counting it takes."""

_ONE_APPENDED: Final = [APPENDED]

_Answered: TypeAlias = tuple[str, Priority, str, Reason]
"""Job type, priority, the answer's word, its reason."""


class SpoolReading(NamedTuple):
    """What a spool holds now.

    Attributes:
        records: Records that wait to be forwarded, and those that the log refused.
        size_bytes: Used bytes of its file.
        age_s: Age of the oldest record that waits, >= 0; 0 if none waits.
    """

    records: int
    size_bytes: int
    age_s: float


ReadSpool: TypeAlias = Callable[[], SpoolReading]


class ServiceObserver:
    """Counts for one service process. Safe to share between threads.

    Attributes:
        log: Where lines about the fleet go.
        spool: Reads the spool, which may block; ``None`` without an open one.
    """

    def __init__(self) -> None:
        self.log = Log()
        self.spool: ReadSpool | None = None
        self._lanes: dict[str, tuple[str, str]] = {}
        self._begin()
        renew_in_child(self._begin)

    def _begin(self) -> None:
        """Count from 0; in a forked child, since it is a process of its own."""
        self._lock = threading.Lock()
        self._metrics = ServiceMetrics()
        self._jobs = LabelValues(_JOBS_MOST)
        self._answers: list[_Answered] = []
        self._took_s: dict[str, list[float]] = {}
        self._counts = AnswerCounts()

    def answered(
        self, job: str, priority: Priority, answer: str, reason: Reason
    ) -> None:
        """Count the answer of a call of submit, or to a request.

        Args:
            job: The name of the job type.
            priority: The priority of the call.
            answer: What was answered: see `ServiceMetrics`.
            reason: Why.
        """
        answers = self._answers
        answers.append((job, priority, answer, reason))
        if len(answers) >= _FOLD_AT:
            with self._lock:
                self._fold_answers()

    def appended(
        self, topic: str, answers: Sequence[AppendAnswer], took_s: float
    ) -> None:
        """Count one append.

        Args:
            topic: The lane of all its records.
            answers: The answer for each record.
            took_s: How long it took.
        """
        if answers == _ONE_APPENDED:
            took = self._took_s.get(topic)
            if took is None:
                took = self._took_s.setdefault(topic, [])
            took.append(took_s)
            if len(took) >= _FOLD_AT:
                with self._lock:
                    self._fold_appends(topic)
            return
        counts = Counter(answers)
        with self._lock:
            self._metrics.append_duration.of().observe_many((took_s,))
            for answer, count in counts.items():
                self._append_ended(self._lane_labels(topic), answer, count)

    def held_back(self, dependency: Dependency, by: Protection) -> None:
        """Count a call that a protection of its dependency refused."""
        with self._lock:
            self._metrics.held_back.of(dependency.name, by.value).inc()

    def events_counted(self, outcome: str, count: int) -> None:
        """Count events of jobs that were written or lost."""
        with self._lock:
            self._metrics.job_events.of(outcome).inc(count)

    def circuit_changed(self, change: Change) -> None:
        """Count and log a change of a circuit."""
        name, word = change.dependency.name, state_word(change.state)
        with self._lock:
            self._metrics.circuit_changed(name, change.scope, word, change.kind)
        LoggingObserver(self.log).circuit_changed(change)

    def found_strange(self, count: int) -> None:
        """Count and log values of the state store that could not be read."""
        with self._lock:
            self._metrics.fleet_strange.of().inc(count)
        LoggingObserver(self.log).found_strange(count)

    def service_report(self, clock: Clock, version: str) -> ServiceReport:
        """What this service reports to the fleet about itself.

        Args:
            clock: Dates the report.
            version: The version of the app; empty if it has none.
        """
        with self._lock:
            self._fold_answers()
            return self._counts.report(clock, version)

    def snapshot(
        self, replica: FleetReplica | None, *, loop_lag_s: float = 0.0
    ) -> Snapshot:
        """All readings now; waits for a read of the spool's file.

        Args:
            replica: What is known of dependencies; ``None`` while that is closed.
            loop_lag_s: How late the event loop is.
        """
        read_spool, spooled = self.spool, None
        if read_spool is not None:
            # A gauge that cannot be read is left out.
            with contextlib.suppress(StoreError):
                spooled = read_spool()
        found = None if replica is None else read_fleet(replica)
        with self._lock:
            self._fold_answers()
            for topic in list(self._took_s):
                self._fold_appends(topic)
            self._set_spool(spooled)
            show_fleet(self._metrics, found)
            self._metrics.loop_lag.of().set(loop_lag_s)
            return self._metrics.snapshot()

    def _append_ended(
        self, lane: tuple[str, str], answer: AppendAnswer, count: int
    ) -> None:
        """Count records of a lane that have the same answer."""
        outcome = "unknown"
        if isinstance(answer, Appended):
            outcome = "spooled" if answer.is_spooled else "appended"
        else:
            reason = "unknown"
            if isinstance(answer, Refused):
                outcome, reason = "refused", answer.reason
            self._metrics.append_failures.of(reason).inc(count)
        self._metrics.appends.of(*lane, outcome).inc(count)

    def _lane_labels(self, topic: str) -> tuple[str, str]:
        """The queue and the priority of a lane, parsed once."""
        if (labels := self._lanes.get(topic)) is not None:
            return labels
        lane = parse_lane(topic)
        labels = ("other", "other")
        if lane is not None:
            labels = lane.queue, lane.priority.value
        self._lanes[topic] = labels
        return labels

    def _fold_answers(self) -> None:
        counts = Counter(_taken(self._answers))
        for (job, priority, answer, reason), count in counts.items():
            self._counts.add(priority, answer, count)
            words = self._jobs.of(job), priority.value, answer, reason.value
            self._metrics.decisions.of(*words).inc(count)

    def _fold_appends(self, topic: str) -> None:
        """Count the noted appends of a lane; each has one record."""
        took = _taken(self._took_s[topic])
        self._metrics.append_duration.of().observe_many(took)
        self._append_ended(self._lane_labels(topic), APPENDED, len(took))

    def _set_spool(self, spooled: SpoolReading | None) -> None:
        metrics = self._metrics
        gauges = (metrics.spool_records, metrics.spool_bytes, metrics.spool_age)
        for place, gauge in enumerate(gauges):
            gauge.clear()
            if spooled is not None:
                gauge.of().set(spooled[place])


_T = TypeVar("_T")


def _taken(notes: list[_T]) -> list[_T]:
    """Take what is in a list; what other threads append meanwhile stays in it."""
    count = len(notes)
    batch = notes[:count]
    del notes[:count]
    return batch
